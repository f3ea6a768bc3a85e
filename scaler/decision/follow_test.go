package decision

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// led is a workload that its leader alone sizes.
func led(ratio float64, leader Leader) Input {
	leader.Asked, leader.Alone, leader.Name, leader.Ratio = true, true, "asr", ratio
	return Input{Policy: Policy{Target: ratio}, Replicas: 3, Leader: leader}
}

func TestFollow(t *testing.T) {
	for name, tc := range map[string]struct {
		in       Input
		value    float64
		replicas int
	}{
		"what it wants":        {led(2, Leader{Wanted: 10, Replicas: 4, Pods: 4}), 10, 5},
		"what it has":          {led(2, Leader{Wanted: 2, Replicas: 6, Pods: 6}), 6, 3},
		"what it has not lost": {led(2, Leader{Wanted: 2, Replicas: 2, Pods: 9}), 9, 5},
		"asleep":               {led(2, Leader{}), 1, 1},
		"two for each":         {led(0.5, Leader{Wanted: 3}), 3, 6},
		"more than it has":     {led(100, Leader{Wanted: 3}), 3, 1},
		"unknown":              {led(2, Leader{Err: "not found"}), 6, 3},
	} {
		d, _ := Decide(tc.in, Memory{})
		require.Equal(t, tc.value, d.Value, name)
		require.Equal(t, tc.replicas, d.Replicas, name)
		require.True(t, d.Active, name)
		require.Equal(t, []string{"follow"}, rules(d), name)
	}
}

// A rollout's surge is not the leader's size; pods that leave are until they are gone.
func TestFollowThroughARolloutAndAScaleDown(t *testing.T) {
	var memory Memory
	for _, step := range []struct{ replicas, pods, want int }{
		{10, 10, 10}, {10, 13, 10}, {10, 10, 10}, // a rollout
		{4, 10, 10}, {4, 7, 7}, {4, 9, 7}, {4, 4, 4}, // a scale-down, and a pod that comes meanwhile
		{4, 2, 4}, {8, 2, 8}, // a scale-up
	} {
		var d Decision
		d, memory = Decide(led(1, Leader{Replicas: step.replicas, Pods: step.pods}), memory)
		require.Equal(t, step.want, d.Replicas, "%+v", step)
	}
	// An outage is none of the leader's.
	d, memory := Decide(led(1, Leader{Err: "not synced"}), memory)
	require.Equal(t, 8, d.Replicas)
	require.True(t, math.IsNaN(d.Demand))
	require.Equal(t, LeaderFault, d.Faults[0].Kind)
	d, _ = Decide(led(1, Leader{Replicas: 1}), memory)
	require.Equal(t, 1, d.Replicas)
}

func TestTheLargerOfALeaderAndALoadWins(t *testing.T) {
	for name, tc := range map[string]struct {
		leader Leader
		want   int
	}{
		"the load":   {Leader{Wanted: 2, Ratio: 2}, 3},
		"the leader": {Leader{Wanted: 9, Ratio: 2}, 5},
		"unknown":    {Leader{Err: "not found", Ratio: 2}, 3},
	} {
		in := fleet(6, 6)
		tc.leader.Asked = true
		in.Leader = tc.leader
		require.Equal(t, tc.want, decide(in).Replicas, name)
	}
}
