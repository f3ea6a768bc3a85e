// Package check reads ScaledObjects, with the workloads and HPAs given beside them,
// and says what would go wrong with them in a cluster, and in which line. It also
// writes the ScaledObject that takes an HPA's place. It is pure: what it reads is
// given to it.
//
// [Rules] lists what is looked for, one function a rule. A rule that needs the
// workload is silent where that was not given.
package check
