package capacity

import (
	"fmt"
	"strings"
)

// Allocation is the number of replicas that the cluster can hold for a workload.
type Allocation struct {
	// Replicas is the sum of Bound, Replacing, the replicas granted to the workload, and
	// the free ones that no other workload claims.
	Replicas int
	// Bound counts the pods that are bound to a node and not terminating. They always
	// count, even if their node is cordoned or not ready.
	Bound int
	// Replacing counts replicas in spec.replicas whose pods wait for terminating pods of
	// the same workload.
	Replacing int
	// Device is what a replica holds.
	Device Device
	// Free counts the free devices of nodes, and of nodes to be added, that the workload
	// may run on. Claimed is the part of Free that is granted to other workloads.
	Free, Claimed int64
	// Quota names the ResourceQuota that leaves less than the nodes do; empty if none does.
	Quota string
	// Unlimited names a node pool without a limit on the device; empty if there is none.
	Unlimited string
	// Unknown lists constraints that are not modelled; empty if there are none.
	Unknown string
}

// String explains the number.
func (a Allocation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s per replica: %d bound", a.Device, a.Bound)
	if a.Replacing > 0 {
		fmt.Fprintf(&b, ", %d to replace terminating pods", a.Replacing)
	}
	more := a.Replicas - a.Bound - a.Replacing
	switch {
	case a.Quota != "":
		fmt.Fprintf(&b, ", and ResourceQuota %s allows %d more", a.Quota, more)
	case a.Free == 0:
		b.WriteString(", and no free devices")
	default:
		fmt.Fprintf(&b, ", and %d more fit on %d free devices", more, a.Free)
	}
	if a.Claimed > 0 {
		fmt.Fprintf(&b, "; %d free devices are granted to other workloads", a.Claimed)
	}
	return b.String()
}
