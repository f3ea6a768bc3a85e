package decision

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// follower returns a workload that only its leader sizes.
func follower(ratio float64, leader Leader) Input {
	leader.Configured, leader.Exclusive, leader.Name, leader.Ratio = true, true, "asr", ratio
	return Input{Policy: Policy{Target: ratio}, Replicas: 3, Leader: leader}
}

func TestFollow(t *testing.T) {
	for name, tc := range map[string]struct {
		in       Input
		value    float64
		replicas int
	}{
		"desired":                {follower(2, Leader{Desired: 10, Replicas: 4, Pods: 4}), 10, 5},
		"current":                {follower(2, Leader{Desired: 2, Replicas: 6, Pods: 6}), 6, 3},
		"terminating":            {follower(2, Leader{Desired: 2, Replicas: 2, Pods: 9}), 9, 5},
		"at zero":                {follower(2, Leader{}), 1, 1},
		"two for each":           {follower(0.5, Leader{Desired: 3}), 3, 6},
		"a ratio above its size": {follower(100, Leader{Desired: 3}), 3, 1},
		"unknown":                {follower(2, Leader{Err: "not found"}), 6, 3},
	} {
		d, _ := Decide(tc.in, Memory{})
		require.Equal(t, tc.value, d.Value, name)
		require.Equal(t, tc.replicas, d.Replicas, name)
		require.True(t, d.Active, name)
		require.Equal(t, []string{"follow"}, rules(d), name)
	}
}

// Surplus pods of a rollout do not count. Terminating pods of a scale-down do.
func TestFollowThroughARolloutAndAScaleDown(t *testing.T) {
	var memory Memory
	for _, step := range []struct{ replicas, pods, want int }{
		{10, 10, 10}, {10, 13, 10}, {10, 10, 10}, // a rollout
		{4, 10, 10}, {4, 7, 7}, {4, 9, 7}, {4, 4, 4}, // a scale-down, with a new pod meanwhile
		{4, 2, 4}, {8, 2, 8}, // a scale-up
	} {
		var d Decision
		d, memory = Decide(follower(1, Leader{Replicas: step.replicas, Pods: step.pods}), memory)
		require.Equal(t, step.want, d.Replicas, "%+v", step)
	}
	// The leader becomes unknown.
	d, memory := Decide(follower(1, Leader{Err: "not synced"}), memory)
	require.Equal(t, 8, d.Replicas)
	require.True(t, math.IsNaN(d.Demand))
	require.Equal(t, LeaderFault, d.Faults[0].Kind)
	d, _ = Decide(follower(1, Leader{Replicas: 1}), memory)
	require.Equal(t, 1, d.Replicas)
}

func TestTheLargerOfLeaderAndLoadApplies(t *testing.T) {
	for name, tc := range map[string]struct {
		leader Leader
		want   int
	}{
		"the load":   {Leader{Desired: 2, Ratio: 2}, 3},
		"the leader": {Leader{Desired: 9, Ratio: 2}, 5},
		"unknown":    {Leader{Err: "not found", Ratio: 2}, 3},
	} {
		in := fleet(6, 6)
		tc.leader.Configured = true
		in.Leader = tc.leader
		require.Equal(t, tc.want, decide(in).Replicas, name)
	}
}
