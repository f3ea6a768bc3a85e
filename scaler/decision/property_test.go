package decision

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/scaler/hpa"
)

// random returns a random Input and Memory, with invalid values too.
func random(r *rand.Rand) (Input, Memory) {
	invalid := []float64{math.NaN(), math.Inf(1), math.Inf(-1), -3, 1e300, 5e-324, 0}
	value := func() float64 {
		if r.IntN(8) == 0 {
			return invalid[r.IntN(len(invalid))]
		}
		return math.Floor(r.Float64()*1e5) / 1e3
	}
	in := Input{
		Now: now,
		Policy: Policy{
			Target:           []float64{0.001, 0.0333, 1, 5, 7.5, 1e6}[r.IntN(6)],
			Activation:       float64(r.IntN(3)),
			SaturationTarget: []float64{0, 0.8, 1}[r.IntN(3)],
			SaturationAdds:   r.IntN(2) == 0,
			LatencyTarget:    time.Duration(r.IntN(3)) * time.Second,
			LatencyLookback:  time.Duration(r.IntN(60)) * time.Second,
			Hold:             time.Duration(r.IntN(2)) * 20 * time.Second,
		},
		Replicas: r.IntN(12),
	}
	if in.Policy.Target == 0.0333 {
		in.Policy.Target = 0.033
	}
	readings := []*Reading{&in.Load, &in.InFlight, &in.Saturation, &in.Latency}
	for _, reading := range readings {
		reading.Configured = r.IntN(4) > 0
		if reading.Configured && r.IntN(10) == 0 {
			reading.Err = "boom"
		}
	}
	for i := range r.IntN(12) {
		p := Pod{Name: fmt.Sprintf("pod-%d", i), State: State(r.IntN(len(states))), Ready: r.IntN(2) == 0}
		in.Pods = append(in.Pods, p)
		for _, reading := range readings {
			if reading.Configured && reading.Err == "" && (p.State == Answering || p.State == Silent) && r.IntN(6) > 0 {
				reading.Values = append(reading.Values, Value{p.Name, value()})
			}
		}
	}
	for _, reading := range readings {
		if reading.Configured && reading.Err == "" && r.IntN(3) == 0 {
			reading.Values = append(reading.Values, Value{"", value()})
		}
	}
	if in.Upstream.Configured = r.IntN(2) == 0; in.Upstream.Configured {
		in.Upstream.InFlight = r.IntN(2) == 0
		if r.IntN(10) == 0 {
			in.Upstream.Err = "boom"
		}
		for i := range r.IntN(4) {
			p := Pod{Name: fmt.Sprintf("api-%d", i), State: State(r.IntN(len(states))), Age: time.Duration(r.IntN(2000)) * time.Millisecond}
			in.Upstream.Sources = append(in.Upstream.Sources, p)
			in.Upstream.Demand.Values = append(in.Upstream.Demand.Values, Value{p.Name, value()})
			in.Upstream.Arrivals.Configured = true
			in.Upstream.Arrivals.Values = append(in.Upstream.Arrivals.Values, Value{p.Name, value()})
		}
	}
	in.Load.Independent, in.InFlight.Independent = r.IntN(5) == 0, r.IntN(5) == 0
	if in.Leader.Configured = r.IntN(4) == 0; in.Leader.Configured {
		in.Leader = Leader{
			Configured: true, Name: "leader", Desired: r.IntN(30), Replicas: r.IntN(30), Pods: r.IntN(30),
			Ratio: []float64{0.001, 0.5, 1, 2}[r.IntN(4)], Exclusive: r.IntN(2) == 0,
		}
		if r.IntN(5) == 0 {
			in.Leader.Err = "boom"
		}
		if in.Leader.Exclusive {
			in.Policy.Target, in.Load, in.InFlight = in.Leader.Ratio, Reading{}, Reading{}
		}
	}
	memory := Memory{HasLast: r.IntN(2) == 0, Last: r.Float64() * 50}
	memory.Load = Complete{r.IntN(2) == 0, r.Float64() * 50}
	memory.LeaderKnown, memory.LeaderPods = r.IntN(2) == 0, r.IntN(30)
	memory.Latency = Complete{r.IntN(2) == 0, r.Float64() * 3}
	for count := 1; r.IntN(2) == 0; count += 1 + r.IntN(3) {
		memory.Ready = append(memory.Ready, Ready{in.Now.Add(time.Duration(count-40) * time.Second), count})
	}
	return in, memory
}

func TestProperties(t *testing.T) {
	for seed := range uint64(10_000) {
		r := rand.New(rand.NewPCG(seed, 7))
		in, memory := random(r)
		d, after := Decide(in, memory)
		checkSound(t, seed, d)
		require.False(t, math.IsNaN(after.Last), "seed %d", seed)
		checkMonotone(t, seed, in, memory, d)
		checkUnknownNeverLowers(t, seed, r, in, after, d)
	}
}

func checkSound(t *testing.T, seed uint64, d Decision) {
	require.True(t, finite(d.Value), "seed %d: %v", seed, d.Value)
	printed, err := strconv.ParseFloat(strconv.FormatFloat(d.Value, 'f', 3, 64), 64)
	require.NoError(t, err)
	require.Equal(t, printed, d.Value, "seed %d: KEDA prints %%.3f", seed)
	v, target := hpa.Milli(d.Value), hpa.Milli(d.Target)
	require.Equal(t, int(math.Ceil(float64(v)/float64(target))), d.Replicas, "seed %d: as the HPA computes it", seed)
	require.LessOrEqual(t, d.Replicas, MaxReplicas, "seed %d", seed)
	require.NotEmpty(t, d.ActiveWhy, "seed %d", seed)
	explained := 0
	for _, step := range d.Steps {
		require.Contains(t, Rules, step.Rule, "seed %d", seed)
		explained += step.After.Replicas - step.Before.Replicas
	}
	require.Equal(t, d.Replicas, explained, "seed %d: the steps add up to the result", seed)
	in := d.Input
	if in.Replicas > 0 && in.InFlight.Configured && in.InFlight.Err == "" {
		for _, v := range in.InFlight.Values {
			if v.Value > in.Policy.Activation {
				sum := d.InFlight
				require.True(t, d.Active, "seed %d: work in flight (%v)", seed, sum)
			}
		}
	}
}

func checkMonotone(t *testing.T, seed uint64, in Input, memory Memory, d Decision) {
	for i, v := range in.Load.Values {
		if !finite(v.Value) {
			continue
		}
		more := in
		more.Load.Values = append([]Value(nil), in.Load.Values...)
		more.Load.Values[i].Value += 7
		after, _ := Decide(more, memory)
		require.GreaterOrEqual(t, after.Replicas, d.Replicas, "seed %d: more load gives fewer replicas", seed)
	}
}

// checkUnknownNeverLowers makes a known pod unknown. The next decision must not be smaller.
func checkUnknownNeverLowers(t *testing.T, seed uint64, r *rand.Rand, in Input, memory Memory, d Decision) {
	for i, p := range in.Pods {
		if p.State != Answering {
			continue
		}
		lost := in
		lost.Pods = append([]Pod(nil), in.Pods...)
		lost.Pods[i].State = []State{Silent, Faulty}[r.IntN(2)]
		after, _ := Decide(lost, memory)
		require.GreaterOrEqual(t, after.Replicas, d.Replicas, "seed %d: %s became unknown", seed, p.Name)
		if d.Active {
			require.True(t, after.Active, "seed %d: %s became unknown", seed, p.Name)
		}
	}
}

func FuzzDecide(f *testing.F) {
	f.Add(uint64(1), 12.0, 5.0, 3)
	f.Add(uint64(2), math.Inf(1), 0.001, 0)
	f.Fuzz(func(t *testing.T, seed uint64, load, target float64, replicas int) {
		defer time.AfterFunc(20*time.Second, func() { panic("hangs") }).Stop()
		if !(target >= 0.001 && target <= 1e6) || replicas < 0 || replicas > 1e6 {
			t.Skip()
		}
		in, memory := random(rand.New(rand.NewPCG(seed, 9)))
		in.Policy.Target, in.Replicas = math.Round(target*1000)/1000, replicas
		in.Load.Values = append(in.Load.Values, Value{"fuzzed", load})
		d, _ := Decide(in, memory)
		checkSound(t, seed, d)
		checkMonotone(t, seed, in, memory, d)
	})
}
