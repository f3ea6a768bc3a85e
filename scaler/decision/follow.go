package decision

import (
	"fmt"
	"math"
)

// follow (rule 5) sizes the workload by its leader: by what the leader is about to
// have, and by what it has until that is gone. Of this and a load of its own the
// larger counts.
func (d *deciding) follow() {
	leader := d.in.Leader
	if leader.Err != "" {
		d.fault(LeaderFault, "follow %s: %s", leader.Name, leader.Err)
	}
	switch {
	case !leader.Asked, leader.Void:
		d.memory.Led, d.memory.LeaderPods, d.memory.LeaderSize = false, 0, 0
		return
	case leader.Err != "":
		d.leaderUnknown()
		return
	}
	// Pods that a rollout adds are not the leader's size; those that it has lost of
	// its replicas are, until they are gone.
	leaving := leader.Pods
	if d.memory.Led {
		leaving = min(d.memory.LeaderPods, leaving)
	}
	has := max(leader.Replicas, leaving)
	size := max(1, leader.Wanted, has)
	d.memory.Led, d.memory.LeaderPods, d.memory.LeaderSize = true, has, size
	d.sizeBy(size, fmt.Sprintf("%s wants %d and has %d", leader.Name, leader.Wanted, has))
}

// sizeBy asks for as many replicas as those of the leader need.
func (d *deciding) sizeBy(count int, why string) {
	leader, target := d.in.Leader, d.in.Policy.Target
	wanted := replicas(float64(count), leader.Ratio)
	value := float64(wanted) * target
	if leader.Alone {
		value = float64(count) // over the ratio, which is the target
		d.out.Demand = value
	}
	if value > d.value || leader.Alone {
		d.step("follow", value, "%s; %d over a ratio of %s are %d replicas", why, count, number(leader.Ratio), wanted)
	}
}

// leaderUnknown keeps what there is, where the leader alone sizes the workload, and
// never less than it was known to need.
func (d *deciding) leaderUnknown() {
	if d.memory.Led {
		d.sizeBy(d.memory.LeaderSize, fmt.Sprintf("%s is unknown, and wanted or had %d", d.in.Leader.Name, d.memory.LeaderSize))
	}
	if present := float64(d.in.Replicas) * d.in.Policy.Target; present > d.value && (d.in.Leader.Alone || !d.memory.Led) {
		d.step("follow", present, "%s is unknown; the %d replicas there are stand", d.in.Leader.Name, d.in.Replicas)
	}
	if d.in.Leader.Alone {
		d.out.Demand = math.NaN()
	}
}
