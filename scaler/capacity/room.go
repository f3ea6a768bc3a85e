package capacity

import (
	"fmt"
	"strings"
)

// Room is how many replicas of a workload there is room for.
type Room struct {
	// Replicas are its Bound ones, those that are Replacing others, its share of what is
	// free, and what of that nobody else claims.
	Replicas int
	// Bound are its pods that are bound to a node, and not terminating: they fit,
	// whatever becomes of the node.
	Bound int
	// Replacing are those that have been given, and wait for pods of the workload's own
	// that are about to end.
	Replacing int
	// Device is what a replica holds.
	Device Device
	// Free are the devices that are free on nodes that it may run on, and on those to
	// come; Claimed, how many of them others have a share in.
	Free, Claimed int64
	// Quota names the ResourceQuota that leaves less than the nodes do; empty: none.
	Quota string
	// Unlimited names a pool that may add devices for ever; empty: none.
	Unlimited string
	// Unknown says what else has a say in it and is not counted; empty: nothing.
	Unknown string
}

// String says what the number is made of.
func (r Room) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s a replica: %d bound", r.Device, r.Bound)
	if r.Replacing > 0 {
		fmt.Fprintf(&b, ", %d to take the place of pods that end", r.Replacing)
	}
	more := r.Replicas - r.Bound - r.Replacing
	switch {
	case r.Quota != "":
		fmt.Fprintf(&b, ", and ResourceQuota %s leaves %d more", r.Quota, more)
	case r.Free == 0:
		b.WriteString(", and nothing free")
	default:
		fmt.Fprintf(&b, ", and %d more fit on %d free", more, r.Free)
	}
	if r.Claimed > 0 {
		fmt.Fprintf(&b, ", of which others have a share of %d", r.Claimed)
	}
	return b.String()
}
