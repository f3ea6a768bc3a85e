// Package check is the linter of ScaledObjects: it finds what goes wrong with them in a
// cluster, and in which line. It is pure: the objects, with their workloads and HPAs, are
// arguments.
//
// [Rules] lists the rules, each with its function. A rule about the workload finds nothing
// if the workload is not among the objects.
package check
