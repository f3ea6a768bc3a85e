package decision

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What was known stands when it is known no more: no rule shrinks a workload for that.

func TestLatencyLost(t *testing.T) {
	for name, r := range map[string]Reading{
		"failed":        {Asked: true, Err: "no answer in time"},
		"found nothing": {Asked: true},
	} {
		t.Run(name, func(t *testing.T) {
			in := fleet(1, 1, 1, 1)
			in.Policy.LatencyTarget, in.Policy.Hold = time.Second, 0
			in.Latency = Reading{Asked: true, Values: []Value{{"", 2}}}
			d, memory := Decide(in, Memory{})
			require.Equal(t, 8, d.Replicas)
			in.Latency = r
			d, memory = Decide(in, memory)
			require.Equal(t, 8, d.Replicas)
			require.Len(t, d.Faults, 1)

			later := in
			later.Now = in.Now.Add(latencyStands)
			d, _ = Decide(later, memory)
			if r.Err == "" {
				require.Equal(t, 1, d.Replicas, "a query may mean by nothing that all is well")
			} else {
				require.Equal(t, 8, d.Replicas)
			}
			asleep := in
			asleep.Replicas, asleep.Pods, asleep.Load.Values, asleep.InFlight.Values = 0, nil, nil, nil
			_, woken := Decide(asleep, memory)
			d, _ = Decide(in, woken)
			require.Equal(t, 1, d.Replicas, "what it was before it slept is not that of the pods it wakes to")

			in.Latency = Reading{Asked: true, Values: []Value{{"", 0.5}}}
			d, _ = Decide(in, memory)
			require.Equal(t, 2, d.Replicas, "measured again")
		})
	}
}

// All pods are replaced at once, and the new ones do not speak yet: the last answer was
// that of a busy fleet, not its load.
func TestLastAnswerOfABusyFleet(t *testing.T) {
	for _, load := range []float64{0, 0.3} {
		in := fleet(load, load, load, load, load, load, load, load, load, load)
		in.Policy.SaturationTarget, in.Policy.Hold = 0.8, 0
		in.Saturation = Reading{Asked: true}
		for _, p := range in.Pods {
			in.Saturation.Values = append(in.Saturation.Values, Value{p.Name, 0.9})
		}
		d, memory := Decide(in, Memory{})
		require.Equal(t, 10, d.Replicas)
		for i := range in.Pods {
			in.Pods[i] = Pod{Name: in.Pods[i].Name + "-new", State: Starting}
		}
		in.Load.Values, in.InFlight.Values, in.Saturation.Values = nil, nil, nil
		d, _ = Decide(in, memory)
		require.Equal(t, 10, d.Replicas, load)
	}
}

// A leader that becomes unknown while it wants more than it has.
func TestLeaderLost(t *testing.T) {
	in := fleet(1, 1)
	in.Replicas = 10 // the HPA has not acted yet
	in.Leader = Leader{Asked: true, Name: "asr", Ratio: 2, Wanted: 50, Replicas: 10, Pods: 10}
	for _, alone := range []bool{false, true} {
		in.Leader.Alone = alone
		in.Policy.Target = 5
		if alone {
			in.Policy.Target = in.Leader.Ratio
		}
		d, memory := Decide(in, Memory{})
		require.Equal(t, 25, d.Replicas)
		lost := in
		lost.Leader = Leader{Asked: true, Name: "asr", Ratio: 2, Alone: alone, Err: "2 workloads are named asr"}
		d, _ = Decide(lost, memory)
		require.Equal(t, 25, d.Replicas)
	}
}

// One of many pods is out of order for long: bursts of the others are held all the same,
// and what makes up for it is not.
func TestHoldBesideAFaultyPod(t *testing.T) {
	var memory Memory
	at := func(second int, load float64, state State) float64 {
		in := fleet(load, 0, 0, 0)
		in.Pods[3].State = state
		in.Now = now.Add(time.Duration(second) * time.Second)
		var d Decision
		d, memory = Decide(in, memory)
		return d.Value
	}
	require.Equal(t, 8.0, at(0, 3, Faulty), "3, and the target of 5 for the pod that does not tell")
	require.Equal(t, 60.0, at(1, 60, Faulty))
	require.Equal(t, 60.0, at(2, 3, Faulty))
	require.Equal(t, 8.0, at(40, 3, Faulty))
	require.Equal(t, 3.0, at(41, 3, Idle))
}

// A large fleet has some pod that is out of order most of the time: what was measured on
// the others is known all the same.
func TestLatencyLostBesideAFaultyPod(t *testing.T) {
	for name, lost := range map[string]Reading{"failed": {Asked: true, Err: "no answer in time"}, "found nothing": {Asked: true}} {
		for _, recovers := range []bool{false, true} {
			in := fleet(1, 1, 1, 1)
			in.Policy.LatencyTarget, in.Policy.Hold = time.Second, 0
			in.Replicas = 8
			in.Latency = Reading{Asked: true, Values: []Value{{"", 0.2}}}
			_, memory := Decide(in, Memory{})
			in.Pods = slices.Clone(in.Pods)
			in.Pods[3].State = Faulty
			in.Latency.Values = []Value{{"", 2}}
			var d Decision
			for range 1200 {
				in.Now = in.Now.Add(time.Second)
				d, memory = Decide(in, memory)
			}
			require.Equal(t, 8, d.Replicas)
			if recovers {
				in.Pods[3].State = Answering
			}
			in.Latency, in.Now = lost, in.Now.Add(time.Second)
			d, _ = Decide(in, memory)
			require.Equal(t, 8, d.Replicas, "%s, %v", name, recovers)
		}
	}
}

func TestLatencyLostWhenTheClockIsSetBack(t *testing.T) {
	in := fleet(1, 1, 1, 1)
	in.Policy.LatencyTarget, in.Policy.Hold = time.Second, 0
	in.Latency = Reading{Asked: true, Values: []Value{{"", 2}}}
	_, memory := Decide(in, Memory{})
	in.Latency.Values, in.Now = nil, in.Now.Add(-3*time.Hour)
	d, _ := Decide(in, memory)
	require.Equal(t, 1, d.Replicas, "for 3 hours and 10 minutes it would stand")
}

// Hold remembers all that was asked for by what was measured.
func TestHoldOfPressureBesideAFaultyPod(t *testing.T) {
	for _, state := range []State{Answering, Faulty} {
		for _, pressure := range []string{"latency", "saturation"} {
			in := fleet(1, 1, 1, 1)
			in.Replicas = 8
			in.Pods[3].State = state
			in.Policy.LatencyTarget, in.Policy.SaturationTarget = time.Second, 0.8
			in.Latency.Asked, in.Saturation.Asked = true, true
			var memory Memory
			at := func(latency, saturation float64) int {
				in.Latency.Values, in.Saturation.Values = []Value{{"", latency}}, nil
				for _, p := range in.Pods {
					in.Saturation.Values = append(in.Saturation.Values, Value{p.Name, saturation})
				}
				in.Now = in.Now.Add(time.Second)
				var d Decision
				d, memory = Decide(in, memory)
				return d.Replicas
			}
			calm := at(0.2, 0.1)
			busy := at(0.2, 0.9)
			if pressure == "latency" {
				memory = Memory{}
				at(0.2, 0.1)
				busy = at(1.2, 0.1)
			}
			require.Greater(t, busy, calm)
			require.Equal(t, busy, at(0.2, 0.1), "%s, %s", pressure, state)
			for range 30 {
				at(0.2, 0.1)
			}
			require.Equal(t, calm, at(0.2, 0.1), "%s, %s", pressure, state)
		}
	}
}
