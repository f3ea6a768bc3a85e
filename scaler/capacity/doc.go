// Package capacity says how many replicas of a workload the cluster can hold, and
// shares what is free among the workloads that want it. It is pure: nodes, pods and
// quotas go in as package metricsource describes them, and numbers come out.
//
// The way of one number: device.go says what a replica needs; fit.go, on which nodes
// it may run and how many of it go on what is free there; share.go hands what is free
// to the workloads that claim it, one replica at a time; room.go says what came of it.
//
// Counted as the kube-scheduler does are requests (all of them, of pods that
// terminate too), readiness, cordons, taints, node selectors and affinities, host
// ports and anti-affinities by host name, and ResourceQuotas besides. What else may
// decide, such as preemption, a Room names as Unknown.
package capacity
