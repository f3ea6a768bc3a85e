package sim

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var zero = time.Unix(0, 0)

// at returns an instant, in seconds since zero.
func at(seconds float64) time.Time { return zero.Add(time.Duration(seconds * float64(time.Second))) }

// script is a list of arrivals.
type script []Arrival

func (s *script) Next() (Arrival, bool) {
	if len(*s) == 0 {
		return Arrival{}, false
	}
	a := (*s)[0]
	*s = (*s)[1:]
	return a, true
}

// burst is n requests at one instant, with one service time in seconds.
func burst(n int, when, service float64) *script {
	var s script
	for range n {
		s = append(s, Arrival{At: at(when), Service: time.Duration(service * float64(time.Second))})
	}
	return &s
}

// newFleet returns a fleet with enough GPUs for any number of replicas.
func newFleet(replicas int, shape Shape, arrivals Arrivals) *Fleet {
	return NewFleet(zero, replicas, shape, arrivals, NewNodes([]int{1 << 20}), 0)
}

var shape = Shape{Name: "asr", Slots: 2, GPUs: 2, Start: 2 * time.Second, ModelLoad: 20 * time.Second}

// queues returns the running and waiting requests of each replica.
func queues(f *Fleet) (q [][2]int) {
	for _, r := range f.replicas {
		q = append(q, [2]int{r.active, len(r.waiting)})
	}
	return q
}

func TestFleetDispatch(t *testing.T) {
	f := newFleet(3, shape, burst(8, 1, 10))
	f.Advance(at(0.9))
	require.Zero(t, f.Stats().Load())
	f.Advance(at(1))
	require.Equal(t, [][2]int{{2, 1}, {2, 1}, {2, 0}}, queues(f))
	f.Advance(at(11))
	require.Equal(t, [][2]int{{1, 0}, {1, 0}, {0, 0}}, queues(f))
	f.Advance(at(15))
	f.Advance(at(3)) // an earlier time
	s := f.Stats()
	require.Equal(t, Stats{
		Arrived: 8, Served: 6, Active: 2, Replicas: 3, Ready: 3, Peak: 3,
		LongestWait: 10 * time.Second, GPUSeconds: 3 * 2 * 15,
	}, s)
	f.Advance(at(100))
	require.Equal(t, 8, f.Stats().Served)
	first := f.replicas[0]
	require.Equal(t, 3, first.served)
	require.InDelta(t, 10+10+20, first.duration, 1e-9)
	require.Equal(t, [...]uint64{0, 0, 0, 0, 2, 3, 3, 3}, first.buckets)
}

func TestFleetStartsReplicas(t *testing.T) {
	f := newFleet(1, shape, &script{})
	before := f.Changes()
	f.Scale(2)
	require.Greater(t, f.Changes(), before)
	require.Equal(t, 2, f.Stats().Replicas)
	pod := func() (phase, ip string, ready bool) {
		p := f.Pods()[1]
		return p.Phase, p.IP, p.Ready
	}
	for _, step := range []struct {
		at        float64
		phase, ip string
		ready     bool
	}{{1.9, "Pending", "", false}, {2, "Running", "10.244.0.4", false}, {21.9, "Running", "10.244.0.4", false}, {22, "Running", "10.244.0.4", true}} {
		f.Advance(at(step.at))
		phase, ip, ready := pod()
		require.Equal(t, step.phase, phase)
		require.Equal(t, step.ip, ip)
		require.Equal(t, step.ready, ready)
	}
	require.Equal(t, "asr-0002", f.Pods()[1].Name)
	require.NotEqual(t, f.Pods()[0].UID, f.Pods()[1].UID)
}

func TestFleetDrains(t *testing.T) {
	arrivals := append(*burst(6, 0, 10), *burst(2, 5, 10)...)
	f := newFleet(2, shape, &arrivals)
	f.Advance(at(1))
	f.Scale(1)
	pods := f.Pods()
	require.True(t, pods[1].Terminating, "the youngest replica")
	require.True(t, pods[1].Ready)
	require.Equal(t, [][2]int{{2, 1}, {2, 1}}, queues(f))
	f.Advance(at(5))
	require.Equal(t, [][2]int{{2, 3}, {2, 1}}, queues(f), "a draining replica gets no new requests")
	f.Advance(at(19))
	require.Equal(t, 1, f.Stats().Draining)
	f.Advance(at(20))
	require.Len(t, f.Pods(), 1, "a draining replica finishes its queue")
	require.InDelta(t, 2*(20+20), f.Stats().GPUSeconds, 1e-9)
	f.Advance(at(60))
	require.Equal(t, 8, f.Stats().Served)
}

func TestFleetRemovesTheLeastReady(t *testing.T) {
	f := newFleet(2, shape, &script{})
	f.Scale(3)
	f.Advance(at(3)) // the third loads
	f.Scale(4)       // the fourth starts
	f.Scale(3)
	require.Equal(t, []string{"asr-0001", "asr-0002", "asr-0003"}, names(f))
	f.Scale(2)
	require.Equal(t, []string{"asr-0001", "asr-0002"}, names(f))
	f.Scale(1)
	require.Equal(t, []string{"asr-0001"}, names(f))
	f.Advance(at(60)) // events of removed replicas have no effect
	require.Equal(t, 1, f.Stats().Ready)
	require.Equal(t, 4, f.Stats().Peak)
}

func names(f *Fleet) (names []string) {
	for _, p := range f.Pods() {
		names = append(names, p.Name)
	}
	return names
}

func TestFleetAtZero(t *testing.T) {
	arrivals := append(*burst(1, 0, 5), *burst(3, 1, 5)...)
	f := newFleet(1, shape, &arrivals)
	f.Advance(at(0))
	f.Scale(0)
	f.Advance(at(10))
	require.Empty(t, f.Pods())
	require.Equal(t, Stats{Arrived: 4, Served: 1, Waiting: 3, Queued: 3, Peak: 1, LongestWait: 9 * time.Second, GPUSeconds: 10}, f.Stats())
	f.Scale(1)
	f.Advance(at(32))
	require.Equal(t, [][2]int{{2, 1}}, queues(f))
	f.Advance(at(60))
	require.Equal(t, 4, f.Stats().Served)
	require.Equal(t, 36*time.Second, f.Stats().LongestWait)
}

// No scaling loses a request, and the size of the time steps does not change the result.
func TestFleetLosesNoRequest(t *testing.T) {
	type scaling struct {
		second, replicas int
	}
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		rate := rapid.Float64Range(0, 20).Draw(t, "rate")
		var plan []scaling
		for second := 0; second < 120; second += rapid.IntRange(1, 30).Draw(t, "pause") {
			plan = append(plan, scaling{second, rapid.IntRange(0, 8).Draw(t, "replicas")})
		}
		run := func(step float64) Stats {
			f := newFleet(1, shape, NewPoisson(seed, zero, []Phase{{"", 2 * time.Minute, rate}}, Service{0, 3 * time.Second}))
			for _, s := range plan {
				for now := f.now; now.Before(at(float64(s.second))); now = now.Add(time.Duration(step * float64(time.Second))) {
					f.Advance(now)
				}
				f.Advance(at(float64(s.second)))
				f.Scale(s.replicas)
				got := f.Stats()
				require.Equal(t, got.Arrived, got.Served+got.Load())
				require.Len(t, f.Pods(), s.replicas+got.Draining)
			}
			f.Scale(1)
			f.Advance(at(1e6))
			return f.Stats()
		}
		coarse, fine := run(1e6), run(1.7)
		require.Equal(t, coarse.Arrived, coarse.Served)
		require.Zero(t, coarse.Load())
		require.InDelta(t, coarse.GPUSeconds, fine.GPUSeconds, 1e-3)
		coarse.GPUSeconds, fine.GPUSeconds = 0, 0
		require.Equal(t, coarse, fine)
	})
}

// Two fleets share a node of 3 GPUs: a replica without free GPUs is pending until the other fleet
// releases some.
func TestFleetsShareNodes(t *testing.T) {
	on := NewNodes([]int{1, 2})
	shape := func(name string, gpus int) Shape {
		return Shape{Name: name, Slots: 8, GPUs: gpus, Start: time.Second, ModelLoad: time.Second}
	}
	none := NewPoisson(1, zero, nil, Service{})
	a, b := NewFleet(zero, 1, shape("a", 2), none, on, 0), NewFleet(zero, 0, shape("b", 1), none, on, 1)
	b.Scale(2)
	allocated, total := on.Allocated()
	require.Equal(t, []int{3, 3}, []int{allocated, total})
	require.Equal(t, 1, b.Stats().Pending)
	pods := b.Pods()
	require.Equal(t, []string{"gpu-node-1", ""}, []string{pods[0].Node, pods[1].Node})
	b.Advance(zero.Add(10 * time.Second))
	require.Equal(t, 1, b.Stats().Ready)
	require.InDelta(t, 10, b.Stats().GPUSeconds, 0.01, "a pending replica has no GPUs")

	a.Scale(0)
	b.Place()
	b.Advance(zero.Add(20 * time.Second))
	require.Equal(t, 2, b.Stats().Ready)
	b.Scale(4)
	require.Equal(t, 1, b.Stats().Pending)
	b.Scale(1) // removes the pending replica
	allocated, _ = on.Allocated()
	require.Equal(t, 1, allocated)
	require.Equal(t, []int64{1, 0}, []int64{on.Inventory()[0].Held[GPUResource], on.Inventory()[1].Held[GPUResource]})
}
