package decision

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// loaded returns a workload with a load that needs the desired replicas.
func loaded(target float64, current, desired int) Input {
	return Input{
		Now: now, Policy: Policy{Target: target}, Replicas: current,
		Pods: []Pod{{Name: "a", State: Answering, Ready: true}},
		Load: Reading{Configured: true, Values: []Value{{Pod: "a", Value: target * float64(desired)}}},
	}
}

func TestCapacity(t *testing.T) {
	for name, tc := range map[string]struct {
		current, desired int
		capacity         Capacity
		value            float64
		replicas         int
		limited          bool
		why              string
	}{
		"does not apply":                      {3, 20, Capacity{}, 100, 20, false, ""},
		"sufficient":                          {3, 20, Capacity{Applies: true, Replicas: 20}, 100, 20, false, ""},
		"insufficient":                        {3, 20, Capacity{Applies: true, Replicas: 16, Why: "8 GPUs"}, 80, 16, true, "the cluster can hold 16 (8 GPUs)"},
		"none":                                {0, 20, Capacity{Applies: true}, 0, 0, true, "the cluster can hold 0 ()"},
		"only observed":                       {3, 20, Capacity{Applies: true, Replicas: 16, Why: "w", Observed: "nodes may be added"}, 100, 20, false, "the cluster can hold 16 (w); not a limit: nodes may be added"},
		"unknown":                             {3, 20, Capacity{Applies: true, Err: "nodes: not allowed"}, 100, 20, false, "unknown, and so not a limit: nodes: not allowed"},
		"unknown, without demand":             {3, 0, Capacity{Applies: true, Err: "x"}, 0, 0, false, "unknown, and so not a limit: x"},
		"within the HPA's tolerance":          {19, 19, Capacity{Applies: true, Replicas: 18}, 85.499, 18, true, "the cluster can hold 18 (); 85.499 is outside the HPA's tolerance of 10 % at 19 replicas"},
		"outside the HPA's tolerance":         {20, 30, Capacity{Applies: true, Replicas: 10}, 50, 10, true, "the cluster can hold 10 ()"},
		"no value outside the tolerance":      {30, 30, Capacity{Applies: true, Replicas: 28}, 140, 28, true, "the cluster can hold 28 (); the HPA keeps 30, unless its tolerance is 0"},
		"above maxReplicaCount":               {3, 20, Capacity{Applies: true, Replicas: 12, MaxReplicas: 10}, 100, 20, false, ""},
		"within the HPA's tolerance, upwards": {11, 20, Capacity{Applies: true, Replicas: 12}, 60, 12, true, "the cluster can hold 12 (); the HPA keeps 11, unless its tolerance is 0"},
		"below maxReplicaCount":               {3, 20, Capacity{Applies: true, Replicas: 12, MaxReplicas: 13}, 60, 12, true, "the cluster can hold 12 ()"},
	} {
		t.Run(name, func(t *testing.T) {
			in := loaded(5, tc.current, tc.desired)
			in.Capacity = tc.capacity
			d, _ := Decide(in, Memory{})
			require.Equal(t, tc.value, d.Value)
			require.Equal(t, tc.replicas, d.Replicas)
			require.Equal(t, tc.desired, d.DemandReplicas, "the demand before the limit is reported")
			require.Equal(t, tc.limited, d.Limited)
			if last := d.Steps[len(d.Steps)-1]; tc.why == "" {
				require.NotEqual(t, "capacity", last.Rule)
			} else {
				require.Equal(t, tc.why, last.Why)
			}
		})
	}
}

// TestCapacityMovesTheHPA checks for random targets that the HPA sets the replicas that the
// cluster can hold, unless no value outside its tolerance does.
func TestCapacityMovesTheHPA(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		target := float64(rapid.IntRange(1, 20_000).Draw(t, "thousandths")) / 1000
		current, capacity := rapid.IntRange(1, 300).Draw(t, "current"), rapid.IntRange(0, 300).Draw(t, "capacity")
		in := loaded(target, current, 400)
		in.Capacity = Capacity{Applies: true, Replicas: capacity}
		d, _ := Decide(in, Memory{})
		require.Equal(t, capacity, d.Replicas, "in thousandths")
		ratio := d.Value / (target * float64(current))
		if capacity < current && ratio >= 0.9 {
			require.LessOrEqual(t, 0.9*target*float64(current)-0.0011, target*float64(capacity-1), "a value outside the tolerance exists")
		}
	})
}

// Hold stores the demand and not the limited value, and applies it once capacity is free.
func TestHoldStoresTheDemand(t *testing.T) {
	in := loaded(5, 3, 20)
	in.Policy.Hold = time.Minute
	in.Capacity = Capacity{Applies: true, Replicas: 4}
	d, memory := Decide(in, Memory{})
	require.Equal(t, 4, d.Replicas)
	in = loaded(5, 4, 10)
	in.Policy.Hold = time.Minute
	in.Capacity = Capacity{Applies: true, Replicas: 50}
	d, _ = Decide(in, memory)
	require.Equal(t, 20, d.Replicas)
}
