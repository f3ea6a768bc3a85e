// Package capacity computes how many replicas of a workload the cluster can hold, and
// shares the free devices among the workloads that claim them. It is pure: its input is
// the inventory of package cluster, its output is a Plan.
//
// A replica count is computed in four steps:
//   - device.go: the devices that a replica needs,
//   - fit.go: the nodes that it may run on,
//   - share.go: the free devices granted to each claim, one replica at a time,
//   - allocation.go: the result for one workload.
//
// The package counts what the kube-scheduler counts: resource requests (those of
// terminating pods too), node readiness, cordons, taints, node selectors and affinities,
// host ports, and anti-affinities by host name. It also counts ResourceQuotas.
// An Allocation lists in Unknown what is not modelled, such as preemption.
package capacity
