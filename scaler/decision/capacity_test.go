package decision

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// loaded is a workload of that many replicas, with a load that asks for so many.
func loaded(target float64, current, asked int) Input {
	return Input{
		Now: now, Policy: Policy{Target: target}, Replicas: current,
		Pods: []Pod{{Name: "a", State: Answering, Ready: true}},
		Load: Reading{Asked: true, Values: []Value{{Pod: "a", Value: target * float64(asked)}}},
	}
}

func TestCapacity(t *testing.T) {
	for name, tc := range map[string]struct {
		current, asked int
		capacity       Capacity
		value          float64
		replicas       int
		limited        bool
		why            string
	}{
		"nobody asked":                        {3, 20, Capacity{}, 100, 20, false, ""},
		"room for all":                        {3, 20, Capacity{Asked: true, Replicas: 20}, 100, 20, false, ""},
		"room for less":                       {3, 20, Capacity{Asked: true, Replicas: 16, Why: "8 GPUs"}, 80, 16, true, "there is room for 16 (8 GPUs)"},
		"no room at all":                      {0, 20, Capacity{Asked: true}, 0, 0, true, "there is room for 0 ()"},
		"only observed":                       {3, 20, Capacity{Asked: true, Replicas: 16, Why: "w", Observed: "nodes may be added"}, 100, 20, false, "there is room for 16 (w); no limit, as nodes may be added"},
		"not known":                           {3, 20, Capacity{Asked: true, Err: "nodes: not allowed"}, 100, 20, false, "not known, and so no limit: nodes: not allowed"},
		"not known, and nothing is 0":         {3, 0, Capacity{Asked: true, Err: "x"}, 0, 0, false, "not known, and so no limit: x"},
		"within the HPA's tolerance":          {19, 19, Capacity{Asked: true, Replicas: 18}, 85.499, 18, true, "there is room for 18 (); 85.499 is beyond the HPA's tolerance of 10 % from 19"},
		"beyond it":                           {20, 30, Capacity{Asked: true, Replicas: 10}, 50, 10, true, "there is room for 10 ()"},
		"within it, and no way beyond":        {30, 30, Capacity{Asked: true, Replicas: 28}, 140, 28, true, "there is room for 28 (); the HPA will not follow from 30, but with a tolerance of 0"},
		"what maxReplicaCount rules out":      {3, 20, Capacity{Asked: true, Replicas: 12, Most: 10}, 100, 20, false, ""},
		"within the HPA's tolerance, upwards": {11, 20, Capacity{Asked: true, Replicas: 12}, 60, 12, true, "there is room for 12 (); the HPA will not follow from 11, but with a tolerance of 0"},
		"or does not":                         {3, 20, Capacity{Asked: true, Replicas: 12, Most: 13}, 60, 12, true, "there is room for 12 ()"},
	} {
		t.Run(name, func(t *testing.T) {
			in := loaded(5, tc.current, tc.asked)
			in.Capacity = tc.capacity
			d, _ := Decide(in, Memory{})
			require.Equal(t, tc.value, d.Value)
			require.Equal(t, tc.replicas, d.Replicas)
			require.Equal(t, tc.asked, d.Demanded, "what was asked for stays to be seen")
			require.Equal(t, tc.limited, d.Limited)
			if last := d.Steps[len(d.Steps)-1]; tc.why == "" {
				require.NotEqual(t, "capacity", last.Rule)
			} else {
				require.Equal(t, tc.why, last.Why)
			}
		})
	}
}

// TestCapacityMovesTheHPA: whatever the target, the HPA has the replicas that there is
// room for, unless no value at all would make it.
func TestCapacityMovesTheHPA(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		target := float64(rapid.IntRange(1, 20_000).Draw(t, "thousandths")) / 1000
		current, room := rapid.IntRange(1, 300).Draw(t, "current"), rapid.IntRange(0, 300).Draw(t, "room")
		in := loaded(target, current, 400)
		in.Capacity = Capacity{Asked: true, Replicas: room}
		d, _ := Decide(in, Memory{})
		require.Equal(t, room, d.Replicas, "the arithmetic of thousandths")
		ratio := d.Value / (target * float64(current))
		if room < current && ratio >= 0.9 {
			require.LessOrEqual(t, 0.9*target*float64(current)-0.0011, target*float64(room-1), "there was a value beyond the tolerance")
		}
	})
}

// What was limited is no peak that would stand once there is room.
func TestHoldRemembersTheDemand(t *testing.T) {
	in := loaded(5, 3, 20)
	in.Policy.Hold = time.Minute
	in.Capacity = Capacity{Asked: true, Replicas: 4}
	d, memory := Decide(in, Memory{})
	require.Equal(t, 4, d.Replicas)
	in = loaded(5, 4, 10)
	in.Policy.Hold = time.Minute
	in.Capacity = Capacity{Asked: true, Replicas: 50}
	d, _ = Decide(in, memory)
	require.Equal(t, 20, d.Replicas)
}
