package decision

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// These tests check that no rule shrinks a workload when known data becomes unknown.

func TestLatencyBecomesUnknown(t *testing.T) {
	for name, r := range map[string]Reading{
		"failed":        {Configured: true, Err: "no answer in time"},
		"found nothing": {Configured: true},
	} {
		t.Run(name, func(t *testing.T) {
			in := fleet(1, 1, 1, 1)
			in.Policy.LatencyTarget, in.Policy.Hold = time.Second, 0
			in.Latency = Reading{Configured: true, Values: []Value{{"", 2}}}
			d, memory := Decide(in, Memory{})
			require.Equal(t, 8, d.Replicas)
			in.Latency = r
			d, memory = Decide(in, memory)
			require.Equal(t, 8, d.Replicas)
			require.Len(t, d.Faults, 1)

			later := in
			later.Now = in.Now.Add(latencyExpiry)
			d, _ = Decide(later, memory)
			if r.Err == "" {
				require.Equal(t, 1, d.Replicas, "an empty result may mean that no latency is above a limit")
			} else {
				require.Equal(t, 8, d.Replicas)
			}
			zero := in
			zero.Replicas, zero.Pods, zero.Load.Values, zero.InFlight.Values = 0, nil, nil, nil
			_, activated := Decide(zero, memory)
			d, _ = Decide(in, activated)
			require.Equal(t, 1, d.Replicas, "a latency from before zero replicas does not apply to new pods")

			in.Latency = Reading{Configured: true, Values: []Value{{"", 0.5}}}
			d, _ = Decide(in, memory)
			require.Equal(t, 2, d.Replicas, "measured again")
		})
	}
}

// All pods are replaced at once, and the new ones do not respond yet. The last value
// includes the saturation, and not only the load.
func TestLastValueIncludesSaturation(t *testing.T) {
	for _, load := range []float64{0, 0.3} {
		in := fleet(load, load, load, load, load, load, load, load, load, load)
		in.Policy.SaturationTarget, in.Policy.Hold = 0.8, 0
		in.Saturation = Reading{Configured: true}
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

// The leader becomes unknown while it desires more replicas than it has.
func TestLeaderBecomesUnknown(t *testing.T) {
	in := fleet(1, 1)
	in.Replicas = 10 // the HPA has not acted yet
	in.Leader = Leader{Configured: true, Name: "asr", Ratio: 2, Desired: 50, Replicas: 10, Pods: 10}
	for _, alone := range []bool{false, true} {
		in.Leader.Exclusive = alone
		in.Policy.Target = 5
		if alone {
			in.Policy.Target = in.Leader.Ratio
		}
		d, memory := Decide(in, Memory{})
		require.Equal(t, 25, d.Replicas)
		lost := in
		lost.Leader = Leader{Configured: true, Name: "asr", Ratio: 2, Exclusive: alone, Err: "2 workloads are named asr"}
		d, _ = Decide(lost, memory)
		require.Equal(t, 25, d.Replicas)
	}
}

// While one pod is faulty, hold keeps the bursts of the others. It does not keep the
// addition for the faulty pod.
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
	require.Equal(t, 8.0, at(0, 3, Faulty), "3, and the target of 5 for the faulty pod")
	require.Equal(t, 60.0, at(1, 60, Faulty))
	require.Equal(t, 60.0, at(2, 3, Faulty))
	require.Equal(t, 8.0, at(40, 3, Faulty))
	require.Equal(t, 3.0, at(41, 3, Idle))
}

// In a large fleet some pod is faulty most of the time. The latency of the others is still
// measured, and kept when the query fails.
func TestLatencyBecomesUnknownBesideAFaultyPod(t *testing.T) {
	for name, lost := range map[string]Reading{"failed": {Configured: true, Err: "no answer in time"}, "found nothing": {Configured: true}} {
		for _, recovers := range []bool{false, true} {
			in := fleet(1, 1, 1, 1)
			in.Policy.LatencyTarget, in.Policy.Hold = time.Second, 0
			in.Replicas = 8
			in.Latency = Reading{Configured: true, Values: []Value{{"", 0.2}}}
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

func TestLatencyBecomesUnknownWhenTheClockIsSetBack(t *testing.T) {
	in := fleet(1, 1, 1, 1)
	in.Policy.LatencyTarget, in.Policy.Hold = time.Second, 0
	in.Latency = Reading{Configured: true, Values: []Value{{"", 2}}}
	_, memory := Decide(in, Memory{})
	in.Latency.Values, in.Now = nil, in.Now.Add(-3*time.Hour)
	d, _ := Decide(in, memory)
	require.Equal(t, 1, d.Replicas, "otherwise it would apply for 3 hours and 10 minutes")
}

// Hold keeps every measured value, also while a pod is faulty.
func TestHoldOfPressureBesideAFaultyPod(t *testing.T) {
	for _, state := range []State{Answering, Faulty} {
		for _, pressure := range []string{"latency", "saturation"} {
			in := fleet(1, 1, 1, 1)
			in.Replicas = 8
			in.Pods[3].State = state
			in.Policy.LatencyTarget, in.Policy.SaturationTarget = time.Second, 0.8
			in.Latency.Configured, in.Saturation.Configured = true, true
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
