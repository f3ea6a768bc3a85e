// Package check is the linter of ScaledObjects. It reports faults that would show in a cluster,
// each with its line. It is pure: the ScaledObjects, workloads and HPAs are arguments.
//
// [Rules] lists the rules, each with its function. A rule about a workload finds nothing if the
// workload is not in the input.
package check
