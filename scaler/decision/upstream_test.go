package decision

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// queueing returns a fleet behind an API server with a queue.
func queueing(queued float64, loads ...float64) Input {
	in := fleet(loads...)
	in.Policy.Hold = 0
	in.Upstream = Upstream{
		Configured: true,
		Sources:    []Pod{{Name: "api", State: Answering}},
		Demand:     Reading{Configured: true, Values: []Value{{"", queued}}},
		Arrivals:   Reading{Configured: true, Values: []Value{{"api", 100}}},
	}
	return in
}

func TestUpstreamDemandAddsToTheLoad(t *testing.T) {
	for name, tc := range map[string]struct {
		in     Input
		change func(*Input)
		want   float64
		active bool
	}{
		"at zero, nothing":                 {in: queueing(0)},
		"at zero, one":                     {in: queueing(1), want: 1, active: true},
		"at zero, a burst":                 {in: queueing(25), want: 25, active: true},
		"at zero, equal to the activation": {in: queueing(3), change: func(in *Input) { in.Policy.Activation = 3 }, want: 3},
		"queued adds to the pods":          {in: queueing(7, 3, 4), want: 14, active: true},
		"queued alone keeps it active":     {in: queueing(1, 0), want: 1, active: true},
		"in flight adds its excess":        {in: queueing(9, 3, 4), change: inFlight, want: 9, active: true},
		"in flight, all of it on pods":     {in: queueing(7, 3, 4), change: inFlight, want: 7, active: true},
		"in flight, less than on pods":     {in: queueing(2, 3, 4), change: inFlight, want: 7, active: true},
		"in flight, with running work on pods": {in: queueing(20, 3, 4), change: func(in *Input) {
			inFlight(in)
			in.InFlight.Values[0].Value = 9 // 6 of them running
		}, want: 14, active: true},
		"in flight, and a pod not read yet": {in: queueing(60, 0, 0), change: func(in *Input) {
			inFlight(in)
			in.Pods[1].State = Unread
		}, want: 5, active: true},
		"metrics from the upstream only": {in: queueing(4, 0), change: func(in *Input) {
			in.Load = Reading{Configured: true, FromUpstream: true}
			in.InFlight = Reading{Configured: true, FromUpstream: true}
		}, want: 4, active: true},
		"its pods are starting": {in: queueing(12, 0), change: func(in *Input) {
			in.Pods[0] = Pod{Name: "pod-0", State: Starting}
			in.Load.Values, in.InFlight.Values = nil, nil
		}, want: 12, active: true},
		"a load that fails": {in: queueing(12, 0), change: func(in *Input) { in.Load.Err = "boom" }, want: 12, active: true},
		"unknown at zero does not activate": {in: queueing(0), change: func(in *Input) {
			in.Upstream.Sources[0].State, in.Upstream.Demand.Values = Unread, nil
		}},
		"unknown above zero keeps active, and the replicas": {in: queueing(0, 0, 0), change: func(in *Input) {
			in.Upstream.Err = "service/api: no ready endpoint"
		}, want: 10, active: true},
		"idle": {in: queueing(0, 0), change: func(in *Input) {
			in.Upstream.Sources[0].State, in.Upstream.Demand.Values = Idle, nil
		}},
		"invalid":    {in: queueing(math.Inf(1), 0), want: 5, active: true},
		"NaN":        {in: queueing(math.NaN(), 0)},
		"beyond any": {in: queueing(1e300), want: MaxReplicas * 5, active: true},
	} {
		if tc.change != nil {
			tc.change(&tc.in)
		}
		d := decide(tc.in)
		require.Equal(t, tc.want, d.Value, "%s: %+v", name, d.Steps)
		require.Equal(t, tc.active, d.Active, "%s: %s", name, d.ActiveWhy)
	}
}

func inFlight(in *Input) { in.Upstream.InFlight = true }

func TestUnknownUpstreamAddsNothingWithoutKnownDemand(t *testing.T) {
	in := queueing(0, 1, 1)
	_, memory := Decide(in, Memory{})
	in.Upstream.Err = "service/api: no ready endpoint"
	d, _ := Decide(in, memory)
	require.Equal(t, 2.0, d.Value)
	require.True(t, d.Active)
	require.Equal(t, UpstreamFault, d.Faults[0].Kind)
}

func TestUpstreamDemandIsKeptWhileUnknown(t *testing.T) {
	in := queueing(8, 1, 1, 1)
	_, memory := Decide(in, Memory{})
	in.Upstream.Err, in.Upstream.Sources, in.Upstream.Demand.Values = "service/redis: no serving endpoint", nil, nil
	d, memory := Decide(in, memory)
	require.Equal(t, 11.0, d.Value)
	in.Replicas = 2
	d, memory = Decide(in, memory)
	require.Equal(t, 10.0, d.Value, "not above the current replicas")
	d, _ = Decide(queueing(0, 1, 1, 1), memory)
	require.Equal(t, 3.0, d.Value, "the queue is known to be empty")
}

// Requests that start and end between two samples are visible only in a counter.
func TestArrivalsAreDemand(t *testing.T) {
	in := queueing(0)
	counted := func(n float64) { in.Upstream.Arrivals.Values = []Value{{"api", n}} }
	var memory Memory
	step := func(after time.Duration) Decision {
		in.Now = in.Now.Add(after)
		var d Decision
		d, memory = Decide(in, memory)
		return d
	}
	require.False(t, step(0).Active, "the first value of a counter does not count")
	require.False(t, step(time.Second).Active)
	counted(101)
	d := step(time.Second)
	require.True(t, d.Active)
	require.Equal(t, 0.0, d.Value, "arrivals activate, and do not size")
	require.Equal(t, in.Now.Add(arrivalExpiry), d.Until)
	require.True(t, step(30*time.Second).Active, "longer than KEDA's polling interval")
	require.False(t, step(31*time.Second).Active)

	counted(3)
	require.True(t, step(time.Second).Active, "the counter was reset")
	require.False(t, step(2*time.Minute).Active)

	in.Upstream.Sources = append(in.Upstream.Sources, Pod{Name: "api-2", State: Answering})
	in.Upstream.Arrivals.Values = append(in.Upstream.Arrivals.Values, Value{"api-2", 7})
	require.False(t, step(time.Second).Active, "a new source")
	in.Upstream.Arrivals.Values[1].Value = 8
	require.True(t, step(time.Second).Active)
	require.False(t, step(2*time.Minute).Active)

	in.Upstream.Arrivals.Values = nil
	step(time.Second)
	counted(2)
	require.True(t, step(time.Second).Active, "a known source without the counter counts from 0")
}

func TestHandOverOfADecision(t *testing.T) {
	var memory Memory
	step := func(in Input) float64 {
		var d Decision
		d, memory = Decide(in, memory)
		return d.Value
	}
	in := queueing(10, 0)
	require.Equal(t, 10.0, step(in))
	moved := queueing(10, 8)
	moved.Upstream.Sources[0].Age = time.Second // read before the pod
	require.Equal(t, 10.0, step(moved), "8 of the 10 are on the pod")
	moved = queueing(2, 8)
	require.Equal(t, 10.0, step(moved))

	memory = Memory{}
	require.Equal(t, 10.0, step(in))
	moved = queueing(2, 0)
	moved.Pods[0].Age = time.Second // read before the requests arrived there
	d, after := Decide(moved, memory)
	memory = after
	require.Equal(t, 10.0, d.Value, "8 are in transit")
	require.Equal(t, 10.0, d.InFlight)
	require.Equal(t, 10.0, step(queueing(2, 8)))
	require.Equal(t, 5.0, step(queueing(2, 3)))
}

// A pod is read after the state of the pods was taken and before the query. Its load is
// newer than its state. The requests that it took from the queue must count once.
func TestHandOverToAPodThatIsReadMeanwhile(t *testing.T) {
	in := queueing(11, 0)
	in.Pods[0] = Pod{Name: "pod-0", State: Starting}
	in.Load.Values, in.InFlight.Values = nil, nil
	_, memory := Decide(in, Memory{})

	in.Now = in.Now.Add(time.Second)
	in.Upstream.Sources[0].Age = 200 * time.Millisecond
	in.Load.Values, in.Load.Newest = []Value{{"pod-0", 8}}, in.Now
	d, memory := Decide(in, memory)
	require.Equal(t, 11.0, d.Value)

	in.Pods[0].State, in.Pods[0].Ready = Answering, true
	in.Upstream.Demand.Values[0].Value, in.Now = 3, in.Now.Add(time.Second)
	in.Load.Newest = in.Now.Add(-100 * time.Millisecond)
	d, _ = Decide(in, memory)
	require.Equal(t, 11.0, d.Value)
}
