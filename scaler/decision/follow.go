package decision

import (
	"fmt"
	"math"
)

// follow (rule 5) sizes the workload for the larger of its leader's desired and current
// replicas. If the workload also has a load of its own, the larger result applies.
func (d *deciding) follow() {
	leader := d.in.Leader
	if leader.Err != "" {
		d.fault(LeaderFault, "follow %s: %s", leader.Name, leader.Err)
	}
	switch {
	case !leader.Configured, leader.Ignored:
		d.memory.LeaderKnown, d.memory.LeaderPods, d.memory.LeaderReplicas = false, 0, 0
		return
	case leader.Err != "":
		d.leaderUnknown()
		return
	}
	// Surplus pods of a rollout do not count. Terminating pods of a scale-down count until
	// they have ended.
	pods := leader.Pods
	if d.memory.LeaderKnown {
		pods = min(d.memory.LeaderPods, pods)
	}
	current := max(leader.Replicas, pods)
	size := max(1, leader.Desired, current)
	d.memory.LeaderKnown, d.memory.LeaderPods, d.memory.LeaderReplicas = true, current, size
	d.sizeFor(size, fmt.Sprintf("%s: %d desired, %d current", leader.Name, leader.Desired, current))
}

// sizeFor sets the replicas that so many replicas of the leader need.
func (d *deciding) sizeFor(count int, why string) {
	leader, target := d.in.Leader, d.in.Policy.Target
	desired := replicas(float64(count), leader.Ratio)
	value := float64(desired) * target
	if leader.Exclusive {
		value = float64(count) // the target is the ratio
		d.out.Demand = value
	}
	if value > d.value || leader.Exclusive {
		d.step("follow", value, "%s; %d at a ratio of %s need %d replicas", why, count, number(leader.Ratio), desired)
	}
}

// leaderUnknown keeps at least the replicas for the last known size of the leader. Without
// one, or without a load of its own, the workload keeps its current replicas.
func (d *deciding) leaderUnknown() {
	if d.memory.LeaderKnown {
		d.sizeFor(d.memory.LeaderReplicas, fmt.Sprintf("%s is unknown; its last known size is %d", d.in.Leader.Name, d.memory.LeaderReplicas))
	}
	if present := float64(d.in.Replicas) * d.in.Policy.Target; present > d.value && (d.in.Leader.Exclusive || !d.memory.LeaderKnown) {
		d.step("follow", present, "%s is unknown; the current %d replicas are kept", d.in.Leader.Name, d.in.Replicas)
	}
	if d.in.Leader.Exclusive {
		d.out.Demand = math.NaN()
	}
}
