package decision

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/scaler/hpa"
)

var now = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// fleet returns an Input with one answering pod per load, and a target of 5.
func fleet(loads ...float64) Input {
	in := Input{
		Now:      now,
		Policy:   Policy{Target: 5, Hold: 20 * time.Second},
		Replicas: len(loads),
		Load:     Reading{Configured: true},
		InFlight: Reading{Configured: true},
	}
	for i, load := range loads {
		name := fmt.Sprintf("pod-%d", i)
		in.Pods = append(in.Pods, Pod{Name: name, State: Answering, Ready: true})
		in.Load.Values = append(in.Load.Values, Value{name, load})
		in.InFlight.Values = append(in.InFlight.Values, Value{name, load})
	}
	return in
}

func decide(in Input) Decision {
	d, _ := Decide(in, Memory{})
	return d
}

func rules(d Decision) []string {
	var all []string
	for _, s := range d.Steps {
		all = append(all, s.Rule)
	}
	return all
}

func TestTheGuidesExamples(t *testing.T) {
	for name, tc := range map[string]struct {
		load float64
		want int
	}{
		"12 active on ASR":   {12, 3},
		"11 waiting on vLLM": {11, 3},
		"a queue of 25":      {25, 5},
		"nothing":            {0, 0},
		"exactly one target": {5, 1},
		"a thousandth above": {5.001, 2},
		"below a thousandth": {5.0004, 1}, // KEDA prints %.3f
	} {
		d := decide(fleet(tc.load))
		require.Equal(t, tc.want, d.Replicas, name)
		require.Equal(t, float64(hpa.Milli(tc.load))/1000, d.Value, "%s: a load without other rules is passed on unchanged", name)
		require.Equal(t, []string{"load"}, rules(d), name)
	}
}

func TestPodAndFleetWideLoadsAdd(t *testing.T) {
	in := fleet(3, 4)
	in.Load.Values = append(in.Load.Values, Value{"", 6})
	require.Equal(t, 13.0, decide(in).Value)
}

func TestUnknownPodsKeepTheFleet(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Input)
		want   float64
	}{
		"a silent pod's last load is kept": {func(in *Input) { in.Pods[1].State = Silent }, 12},
		"ready, and not read yet":          {func(in *Input) { in.Pods[1].State = Unread; in.Load.Values = in.Load.Values[:1] }, 10},
		"still starting":                   {func(in *Input) { in.Pods[1].State = Starting; in.Load.Values = in.Load.Values[:1] }, 6},
		"faulty":                           {func(in *Input) { in.Pods[1].State = Faulty; in.Load.Values = in.Load.Values[:1] }, 10},
		"not above the current replicas":   {func(in *Input) { in.Pods[1].State = Unread; in.Load.Values = in.Load.Values[:1]; in.Replicas = 1 }, 6},
		"infinite":                         {func(in *Input) { in.Load.Values[1].Value = math.Inf(1) }, 10},
		"negative":                         {func(in *Input) { in.Load.Values[1].Value = -1 }, 10},
		"all silent, all at zero": {func(in *Input) {
			in.Pods[0].State, in.Pods[1].State = Silent, Silent
			in.Load.Values[0].Value, in.Load.Values[1].Value = 0, 0
		}, 10},
		"nothing known":    {func(in *Input) { in.Load.Values = nil; in.Pods[0].State, in.Pods[1].State = Unread, Unread }, 10},
		"no pod there":     {func(in *Input) { in.Load.Values, in.Pods = nil, nil }, 10},
		"the query failed": {func(in *Input) { in.Load = Reading{Configured: true, Err: "boom"} }, 10},
		"nothing known, and the query returns 0": {func(in *Input) {
			in.Load.Values = []Value{{"", 0}}
			in.Pods[0].State, in.Pods[1].State = Starting, Starting
		}, 10},
		"an empty result":     {func(in *Input) { in.Load.Values = nil }, 10},
		"idle pods":           {func(in *Input) { in.Load.Values = nil; in.Pods[0].State, in.Pods[1].State = Idle, Idle }, 0},
		"nothing runs":        {func(in *Input) { in.Load.Values, in.Pods, in.Replicas = nil, nil, 0 }, 0},
		"NaN is ignored":      {func(in *Input) { in.Load.Values[1].Value = math.NaN() }, 6},
		"beyond any fleet":    {func(in *Input) { in.Load.Values[1].Value = 1e300 }, MaxReplicas * 5},
		"a current load of 0": {func(in *Input) { in.Load.Values[1].Value = 0 }, 6},
	} {
		in := fleet(6, 6)
		tc.change(&in)
		require.Equal(t, tc.want, decide(in).Value, name)
	}
}

func TestUnknownLoadFallsBackToTheLastValue(t *testing.T) {
	in := fleet(20, 3)
	in.Policy.Hold = 0
	_, memory := Decide(in, Memory{})
	in.Pods[0].State, in.Pods[1].State, in.Load.Values = Unread, Unread, nil
	d, _ := Decide(in, memory)
	require.Equal(t, 23.0, d.Value)
	require.True(t, d.Active)
}

func TestFleetWideLoadNeverFallsWhileAPodIsUnknown(t *testing.T) {
	in := fleet(0, 0, 0)
	in.Policy.Hold = 0
	in.Load.Values = []Value{{"", 40}}
	_, memory := Decide(in, Memory{})
	in.Load.Values = []Value{{"", 22}}
	in.Pods[2].State = Silent
	d, memory := Decide(in, memory)
	require.Equal(t, 40.0, d.Value)
	in.Pods[2].State = Answering
	d, _ = Decide(in, memory)
	require.Equal(t, 22.0, d.Value)
}

func TestSaturation(t *testing.T) {
	busy := func(change func(*Input)) Decision {
		in := fleet(0, 0, 0, 0)
		in.Policy.SaturationTarget = 0.8
		in.Saturation = Reading{Configured: true, Values: []Value{{"pod-0", 0.7}, {"pod-1", 0.6}, {"pod-2", 0.5}, {"pod-3", 0.2}}}
		change(&in)
		return decide(in)
	}
	require.Equal(t, 3, busy(func(*Input) {}).Replicas, "2.0 / 0.8 = 2.5")
	require.Equal(t, 2, busy(func(in *Input) { in.Replicas = 2 }).Replicas, "it keeps replicas, and adds none")
	require.Equal(t, 3, busy(func(in *Input) { in.Replicas = 2; in.Policy.SaturationAdds = true }).Replicas)
	require.Equal(t, 4, busy(func(in *Input) { in.Saturation.Values = in.Saturation.Values[:3] }).Replicas, "a pod without a value counts as full")
	require.Equal(t, 3, busy(func(in *Input) {
		in.Saturation.Values = in.Saturation.Values[:3]
		in.Pods[3].State = Idle
	}).Replicas)
	require.Equal(t, 3, busy(func(in *Input) { in.Saturation.Values = []Value{{"", 0.5}} }).Replicas, "an average applies to each pod")
	require.Equal(t, 5, busy(func(in *Input) { in.Load.Values[0].Value = 21 }).Replicas, "the larger applies")
}

func TestLatency(t *testing.T) {
	slow := func(seconds float64, change func(*Input)) Decision {
		in := fleet(1, 1)
		in.Policy.LatencyTarget = 500 * time.Millisecond
		in.Latency = Reading{Configured: true, Values: []Value{{"", seconds}}}
		change(&in)
		return decide(in)
	}
	none := func(*Input) {}
	require.Equal(t, 4, slow(0.9, none).Replicas)
	require.Equal(t, 2, slow(0.5, none).Replicas)
	require.Equal(t, 1, slow(0.1, none).Replicas)
	require.Equal(t, 1, slow(math.NaN(), none).Replicas)
	require.Equal(t, 4, slow(0.9, func(in *Input) {
		in.Replicas = 4
		in.Pods = append(in.Pods, Pod{Name: "new", State: Starting}, Pod{Name: "newer", State: Starting})
	}).Replicas, "loading pods are not asked for again")
}

func TestLatencyMultipliesTheReplicasItWasMeasuredOn(t *testing.T) {
	in := fleet(1)
	in.Policy.LatencyTarget, in.Policy.LatencyLookback, in.Policy.Hold = time.Second, 10*time.Second, 0
	memory := Memory{}
	for _, step := range []struct {
		after   time.Duration
		ready   int
		latency float64
		want    int
		why     string
	}{
		{0, 1, 5, 5, "five times the objective on one replica"},
		{3 * time.Second, 5, 5, 5, "four more are ready: the latency is still that of one"},
		{5 * time.Second, 5, 6, 6, "requests of the one pod may still end"},
		{5 * time.Second, 5, 6, 30, "after the lookback it is that of five"},
		{time.Second, 3, 1, 3, "fewer apply at once"},
		{time.Second, 0, 4, 1, "none is ready: only the load counts"},
		{time.Second, 1, 4, 4, "one is ready again"},
		{-time.Hour, 4, 2, 2, "the clock was set back"},
		{10 * time.Second, 4, 2, 8, "counts in the future are dropped"},
	} {
		in.Now = in.Now.Add(step.after)
		in.Replicas = max(step.ready, 1)
		in.Pods = nil
		for i := range in.Replicas {
			in.Pods = append(in.Pods, Pod{Name: fmt.Sprint("pod-", i), State: Answering, Ready: i < step.ready})
		}
		in.Latency = Reading{Configured: true, Values: []Value{{"", step.latency}}}
		var d Decision
		d, memory = Decide(in, memory)
		require.Equal(t, step.want, d.Replicas, step.why)
	}
}

func TestLastLatencyDoesNotMakeTheFleetGrow(t *testing.T) {
	in := fleet(1, 1, 1, 1)
	in.Policy.LatencyTarget, in.Policy.Hold = time.Second, 0
	in.Latency = Reading{Configured: true, Values: []Value{{"", 3}}}
	d, memory := Decide(in, Memory{})
	require.Equal(t, 12, d.Replicas)
	in.Pods[0].State, in.Latency.Values[0].Value = Silent, 0.01
	for range 5 {
		d, memory = Decide(in, memory)
		require.Equal(t, 12, d.Replicas, "the last value is kept, and not multiplied again")
		for len(in.Pods) < d.Replicas {
			in.Pods = append(in.Pods, Pod{Name: fmt.Sprint("new-", len(in.Pods)), State: Answering, Ready: true})
		}
		in.Replicas = d.Replicas
	}
}

func TestFillingWindow(t *testing.T) {
	in := fleet(2, 2, 2)
	in.Filling = true
	d := decide(in)
	require.Equal(t, 15.0, d.Value, "a sum over half a window is too small")
	require.True(t, d.Active)
	in.Load.Values[0].Value = 20
	require.Equal(t, 24.0, decide(in).Value, "a higher load still applies")
}

func TestHoldIgnoresAdditionsForUnknownPods(t *testing.T) {
	in := fleet(1, 1, 1)
	in.Pods[2].State, in.Load.Values = Unread, in.Load.Values[:2]
	d, memory := Decide(in, Memory{})
	require.Equal(t, 7.0, d.Value)
	d, _ = Decide(fleet(1, 1, 1), memory)
	require.Equal(t, 3.0, d.Value)
}

func TestHoldKeepsThePeak(t *testing.T) {
	var memory Memory
	var d Decision
	at := func(second float64, load float64) float64 {
		in := fleet(load)
		in.Now = now.Add(time.Duration(second * float64(time.Second)))
		d, memory = Decide(in, memory)
		return d.Value
	}
	require.Equal(t, 3.0, at(0, 3))
	require.Equal(t, 40.0, at(1, 40))
	require.Equal(t, 40.0, at(2, 9))
	require.Equal(t, "hold", d.Steps[len(d.Steps)-1].Rule)
	require.Equal(t, 40.0, at(20.9, 5))
	require.Equal(t, 9.0, at(21.5, 5))
	require.Equal(t, 5.0, at(41, 1), "the hold of 5 starts when it was last measured")
	require.Equal(t, 1.0, at(65.5, 1))
	require.Equal(t, 2.0, at(0, 2), "peaks in the future are dropped")
	for i := range 10_000 {
		at(100+float64(i)/100, float64(10_000-i))
	}
	require.LessOrEqual(t, len(memory.Peaks), holdGrain+2)
	require.InDelta(t, 2_016, d.Value, 40)
}

func TestActive(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Input)
		want   bool
	}{
		"work in flight":              {func(*Input) {}, true},
		"none":                        {func(in *Input) { in.InFlight.Values[0].Value = 0 }, false},
		"not above activation":        {func(in *Input) { in.Policy.Activation = 60 }, false},
		"above activation":            {func(in *Input) { in.Policy.Activation = 59 }, true},
		"60 running, nothing waiting": {func(in *Input) { in.Load.Values[0].Value = 0 }, true},
		"unknown pod":                 {func(in *Input) { in.InFlight.Values[0].Value = 0; in.Pods[0].State = Silent }, true},
		"starting pod":                {func(in *Input) { in.InFlight.Values = nil; in.Pods[0].State = Starting }, true},
		"not asked":                   {func(in *Input) { in.InFlight = Reading{} }, true},
		"failed":                      {func(in *Input) { in.InFlight = Reading{Configured: true, Err: "boom"} }, true},
		"found nothing":               {func(in *Input) { in.InFlight.Values = nil }, true},
		"NaN":                         {func(in *Input) { in.InFlight.Values[0].Value = math.NaN() }, true},
		"a terminating pod's 0": {func(in *Input) {
			in.InFlight.Values[0].Value = 0
			in.Pods[0].Ready = false
			in.Pods = append(in.Pods, Pod{Name: "new"})
		}, true},
		"a terminating pod's work":        {func(in *Input) { in.Pods[0].Ready = false }, true},
		"no pod, and no earlier decision": {func(in *Input) { in.InFlight.Values, in.Pods = nil, nil }, true},
		"idle":                            {func(in *Input) { in.InFlight.Values = nil; in.Pods[0].State = Idle }, false},
		"late request at zero replicas":   {func(in *Input) { in.Replicas = 0 }, false},
	} {
		in := fleet(60)
		tc.change(&in)
		d := decide(in)
		require.Equal(t, tc.want, d.Active, "%s: %s", name, d.ActiveWhy)
		require.NotEmpty(t, d.ActiveWhy, name)
	}
}

// The pods of an idle fleet may end before spec.replicas is seen to be 0. This must not
// activate the workload. An activated workload stays active until a ready pod reports its
// work, however long the pod takes to start.
func TestActivityAroundZeroReplicas(t *testing.T) {
	none := []Pod(nil)
	starting := []Pod{{Name: "new", State: Starting}}
	unready := []Pod{{Name: "new", State: Answering}}
	ready := []Pod{{Name: "new", State: Answering, Ready: true}}
	leaving := []Pod{{Name: "old", State: Answering}} // terminating: not ready
	both := slices.Concat(leaving, starting)
	for name, steps := range map[string][]struct {
		replicas int
		pods     []Pod
		work     float64
		want     bool
	}{
		"idle, scaled down":                   {{1, ready, 0, false}, {1, leaving, 0, false}, {1, none, 0, false}, {0, none, 0, false}},
		"busy, scaled down":                   {{1, ready, 1, true}, {1, leaving, 1, true}, {1, none, 0, true}, {0, none, 0, false}},
		"idle, with a late request":           {{1, ready, 0, false}, {1, leaving, 1, true}, {0, leaving, 1, false}},
		"activated":                           {{0, none, 0, false}, {1, none, 0, true}, {1, starting, 0, true}, {1, unready, 0, true}, {1, ready, 0, false}},
		"activated while the last pod drains": {{0, leaving, 0, false}, {1, leaving, 0, true}, {1, both, 0, true}, {1, starting, 0, true}, {1, ready, 2, true}},
		"first seen":                          {{1, none, 0, true}, {1, starting, 0, true}, {1, ready, 0, false}},
		"replaced while busy":                 {{1, ready, 3, true}, {1, starting, 0, true}, {1, ready, 0, false}},
		"replaced while idle":                 {{1, ready, 0, false}, {1, starting, 0, false}, {1, ready, 1, true}},
	} {
		var memory Memory
		for i, s := range steps {
			in := fleet()
			in.Replicas, in.Pods = s.replicas, s.pods
			for _, p := range s.pods {
				if p.State == Answering {
					in.Load.Values = append(in.Load.Values, Value{p.Name, s.work})
					in.InFlight.Values = append(in.InFlight.Values, Value{p.Name, s.work})
				}
			}
			var d Decision
			d, memory = Decide(in, memory)
			require.Equal(t, s.want, d.Active, "%s, step %d: %s", name, i, d.ActiveWhy)
		}
	}
}

func TestDecideDoesNotModifyItsInput(t *testing.T) {
	in := fleet(6, math.Inf(1))
	memory := Memory{Peaks: []Peak{{now, 3}, {now, 2}}}
	Decide(in, memory)
	require.Equal(t, Answering, in.Pods[1].State)
	require.Equal(t, []Peak{{now, 3}, {now, 2}}, memory.Peaks)
}

// An independent query may report work without a pod, and activates the workload at zero
// replicas. An empty result is a fault.
func TestIndependentQueries(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Input)
		value  float64
		active bool
		fault  FaultKind
	}{
		"known, with pods":             {func(*Input) {}, 12, true, ""},
		"known, and the pods starting": {func(in *Input) { in.Pods[0].State, in.Pods[0].Ready = Starting, false }, 12, true, ""},
		"known, and no pod yet":        {func(in *Input) { in.Pods = nil }, 12, true, ""},
		"at zero":                      {func(in *Input) { in.Pods, in.Replicas = nil, 0 }, 12, true, ""},
		"at zero, nothing to do": {func(in *Input) {
			in.Pods, in.Replicas, in.Load.Values[0].Value, in.InFlight.Values[0].Value = nil, 0, 0, 0
		}, 0, false, ""},
		"at zero, not above activation": {func(in *Input) { in.Pods, in.Replicas, in.Policy.Activation = nil, 0, 12 }, 12, false, ""},
		"at zero, NaN": {func(in *Input) {
			in.Pods, in.Replicas, in.Load.Values[0].Value, in.InFlight.Values[0].Value = nil, 0, math.NaN(), math.NaN()
		}, 0, false, ""},
		"at zero, found nothing":        {func(in *Input) { in.Pods, in.Replicas, in.Load.Values, in.InFlight.Values = nil, 0, nil, nil }, 0, false, QueryFault},
		"at zero, failed":               {func(in *Input) { in.Pods, in.Replicas, in.Load.Err, in.InFlight.Err = nil, 0, "boom", "boom" }, 0, false, QueryFault},
		"nothing to do":                 {func(in *Input) { in.Load.Values[0].Value, in.InFlight.Values[0].Value = 0, 0 }, 0, false, ""},
		"nothing to do, and no pod yet": {func(in *Input) { in.Pods, in.Load.Values[0].Value, in.InFlight.Values[0].Value = nil, 0, 0 }, 0, false, ""},
		"found nothing":                 {func(in *Input) { in.Load.Values, in.InFlight.Values = nil, nil }, 15, true, QueryFault},
		"found nothing, and no pod":     {func(in *Input) { in.Pods, in.Load.Values, in.InFlight.Values = nil, nil, nil }, 15, true, QueryFault},
		"failed":                        {func(in *Input) { in.Load.Err, in.InFlight.Err = "boom", "boom" }, 15, true, QueryFault},
		"infinite":                      {func(in *Input) { in.Load.Values[0].Value, in.InFlight.Values[0].Value = math.Inf(1), math.Inf(1) }, 15, true, BadValue},
	} {
		in := fleet(12)
		in.Replicas = 3
		in.Load = Reading{Configured: true, Independent: true, Values: []Value{{"", 12}}}
		in.InFlight = Reading{Configured: true, Independent: true, Values: []Value{{"", 12}}}
		tc.change(&in)
		d, _ := Decide(in, Memory{})
		require.Equal(t, tc.value, d.Value, name)
		require.Equal(t, tc.active, d.Active, "%s: %s", name, d.ActiveWhy)
		if tc.fault == "" {
			require.Empty(t, d.Faults, name)
		} else {
			require.Equal(t, tc.fault, d.Faults[0].Kind, name)
		}
	}
}
