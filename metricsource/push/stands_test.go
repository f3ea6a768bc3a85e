package push

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	demandv1 "github.com/inference-scaler/inference-scaler/proto/demand/v1"
)

func TestWhatIsRememberedIsWhatWasReportedLast(t *testing.T) {
	s := NewStore(nil)
	w := watch(t, s)
	defer w.Close()
	big := strings.Repeat("x", 900)
	for i := range 63 {
		r := queued(uint64(i+1), 1)
		r.TimeToLive = durationpb.New(time.Minute)
		r.Samples = nil
		for k := range 16 {
			ls := map[string]string{}
			for l := range 16 {
				ls[fmt.Sprintf("l%02d", l)] = fmt.Sprintf("%s-%d-%d", big, i, k)
			}
			r.Samples = append(r.Samples, &demandv1.Sample{Name: "anything", Labels: ls, Value: 1})
		}
		require.NoError(t, s.take(r, asr, told))
	}
	require.NoError(t, s.take(func() *demandv1.ReportRequest {
		r := queued(1000, 1)
		r.TimeToLive = durationpb.New(time.Minute)
		return r
	}(), asr, told))
	held := 0
	for _, m := range w.members {
		for _, k := range m.series {
			held += len(k.labels.String())
		}
	}
	require.Less(t, held, MaxMessage)
}

func TestPartsOfTwoExporters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := running(t)
		defer stop()
		server, w := NewServer(s, nil), watch(t, s)
		gone := 0
		for range 10 {
			require.Nil(t, server.export(exported("asr", uint64(time.Now().UnixNano()), "demand.queued_requests", 7), asr).GetPartialSuccess())
			time.Sleep(5 * time.Second)
			require.Nil(t, server.export(exported("asr", uint64(time.Now().UnixNano()), "other.metric", 1), asr).GetPartialSuccess())
			for range 55 {
				time.Sleep(time.Second)
				synctest.Wait()
				if len(w.demand(t)) == 0 {
					gone++
				}
			}
		}
		require.Zero(t, gone, "seconds of 600 in which the demand was gone, though said every minute")
	})
}

func TestPartsByTwoReplicas(t *testing.T) {
	here, there := NewStore(nil), NewStore(nil)
	r := newRelay()
	here.relays[r] = struct{}{}
	w := watch(t, there)
	require.Nil(t, NewServer(here, nil).export(exported("asr", 10, "demand.queued_requests", 7), asr).GetPartialSuccess())
	require.NoError(t, there.take(<-r.queue, []string{everywhere}, relayed))
	require.Equal(t, map[string]float64{"api-0": 7}, w.demand(t))
	require.Nil(t, NewServer(there, nil).export(exported("asr", 11, "other.metric", 1), asr).GetPartialSuccess())
	require.Equal(t, map[string]float64{"api-0": 7}, w.demand(t), "it was said a moment ago, and stands for 2.5 minutes")
}

func TestPartOfAnEarlierMoment(t *testing.T) {
	s := NewStore(nil)
	w := watch(t, s)
	req := exported("asr", 1_000_000_500, "other.metric", 1)
	req.ResourceMetrics = append(req.ResourceMetrics, exported("asr", 1_000_000_000, "demand.queued_requests", 7).ResourceMetrics...)
	require.Nil(t, NewServer(s, nil).export(req, asr).GetPartialSuccess())
	require.Equal(t, map[string]float64{"api-0": 7}, w.demand(t))
}

func TestRestartedReplicaIsToldAllThatStands(t *testing.T) {
	a, b := NewStore(nil), NewStore(nil)
	toA := newRelay()
	b.relays[toA] = struct{}{}
	said := queued(1, 5)
	said.TimeToLive = durationpb.New(10 * time.Minute)
	require.NoError(t, b.take(said, asr, told))
	require.NoError(t, a.take(<-toA.queue, []string{everywhere}, relayed))
	require.Equal(t, map[string]float64{"api-0": 5}, watch(t, a).demand(t))

	b = NewStore(nil) // restarted; what relayTo sends first to a new replica:
	for _, req := range a.standing() {
		require.NoError(t, b.take(req, []string{everywhere}, relayed))
	}
	require.Equal(t, map[string]float64{"api-0": 5}, watch(t, b).demand(t), "A knows it, it stands for 10 minutes, and B is new")
}

func TestTakenBackWhileTheStreamWasBroken(t *testing.T) {
	a, b := NewStore(nil), NewStore(nil)
	said := queued(1, 5)
	said.TimeToLive = durationpb.New(10 * time.Minute)
	require.NoError(t, a.take(said, asr, told))
	require.NoError(t, b.take(said, []string{everywhere}, relayed))
	back := queued(2, 0)
	back.TimeToLive = durationpb.New(0)
	require.NoError(t, a.take(back, asr, told)) // no stream now
	for _, req := range a.standing() {          // the stream is there again
		require.NoError(t, b.take(req, []string{everywhere}, relayed))
	}
	require.Empty(t, watch(t, b).demand(t))
}

// Of two exporters of a pod one stops: what it said ends in time, and is not kept by the
// other, here and on the other replicas.
func TestPartsEndByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there, flow, stop := pair(t)
		defer stop()
		server := NewServer(here, nil)
		w, v := watch(t, here), watch(t, there)
		demands := func() []float64 {
			flow()
			return []float64{w.demand(t)["api-0"], v.demand(t)["api-0"]}
		}
		export := func(name string, value float64) {
			require.Nil(t, server.export(exported("asr", uint64(time.Now().UnixNano()), name, value), asr).GetPartialSuccess())
			flow()
		}
		for range 13 { // a minute, and then the pace is known
			export("demand.queued_requests", 7)
			export("other.metric", 1)
			time.Sleep(5 * time.Second)
		}
		export("other.metric", 1)
		time.Sleep(4 * time.Second)
		require.Equal(t, []float64{7, 7}, demands())
		export("other.metric", 1)
		time.Sleep(4 * time.Second)
		require.Equal(t, []float64{0, 0}, demands(), "2.5 times 5 s are over")
		require.NotNil(t, here.reporters[workload{"asr", "lightning-asr"}]["api-0"].last, "the other stands")
	})
}

// pair is two replicas that pass on to each other, as far as flow lets them.
func pair(t *testing.T) (a, b *Store, flow func(), stop func()) {
	a, stopA := running(t)
	b, stopB := running(t)
	toA, toB := newRelay(), newRelay()
	a.relays[toB], b.relays[toA] = struct{}{}, struct{}{}
	flow = func() {
		synctest.Wait()
		for len(toA.queue)+len(toB.queue) > 0 {
			select {
			case r := <-toA.queue:
				_ = a.take(r, []string{everywhere}, relayed)
			case r := <-toB.queue:
				_ = b.take(r, []string{everywhere}, relayed)
			}
		}
		synctest.Wait()
	}
	return a, b, flow, func() { stopA(); stopB() }
}

// What was said last is not passed to and fro for ever.
func TestSeriesEndOnBothReplicas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, flow, stop := pair(t)
		defer stop()
		w, v := watch(t, a), watch(t, b)
		stores := []*Store{a, b}
		for i := range 90 { // 15 minutes, every 10 s, round robin
			s := NewServer(stores[i%2], nil)
			now := uint64(time.Now().UnixNano())
			if i < 6 {
				s.export(exported("asr", now, "demand.queued_requests", 7), asr)
			}
			s.export(exported("asr", now, "other.metric", float64(i)), asr)
			flow()
			time.Sleep(10 * time.Second)
			flow()
		}
		require.Empty(t, w.demand(t), "said last 14 minutes ago")
		require.Empty(t, v.demand(t))
	})
}

func TestSeriesOfPinnedExportersEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, flow, stop := pair(t)
		defer stop()
		w := watch(t, a)
		for i := range 60 { // 1 h, every minute, two exporters of one pod
			now := uint64(time.Now().UnixNano())
			if i < 3 {
				NewServer(a, nil).export(exported("asr", now, "demand.queued_requests", 7), asr)
			}
			NewServer(a, nil).export(exported("asr", now, "third.metric", float64(i)), asr)
			flow()
			time.Sleep(20 * time.Second)
			NewServer(b, nil).export(exported("asr", uint64(time.Now().UnixNano()), "other.metric", float64(i)), asr)
			flow()
			time.Sleep(40 * time.Second)
			flow()
		}
		require.Empty(t, w.demand(t), "said last 57 minutes ago")
	})
}

func TestStandingTellsTheTimeOfEachSeries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := NewStore(nil)
		s := NewServer(a, nil)
		s.export(exported("asr", uint64(time.Now().UnixNano()), "other.metric", 1), asr) // once
		time.Sleep(120 * time.Second)
		s.export(exported("asr", uint64(time.Now().UnixNano()), "demand.queued_requests", 7), asr)
		time.Sleep(25 * time.Second)
		for _, r := range a.standing() {
			require.Greater(t, r.GetTimeToLive().AsDuration(), 100*time.Second)
		}
	})
}

// A Collector may give points the time at which they were read, or made: it may stand still.
func TestPointsWhoseTimeStandsStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, flow, stop := pair(t)
		defer stop()
		w, v := watch(t, a), watch(t, b)
		s := NewServer(a, nil)
		s.export(exported("asr", 1000, "other.metric", 1), asr)
		s.export(exported("asr", 1000, "demand.queued_requests", 7), asr)
		goneA, goneB := 0, 0
		for range 60 {
			time.Sleep(10 * time.Second)
			s.export(exported("asr", 1000, "demand.queued_requests", 7), asr)
			flow()
			if len(w.demand(t)) == 0 {
				goneA++
			}
			if len(v.demand(t)) == 0 {
				goneB++
			}
		}
		require.Zero(t, goneA)
		require.Zero(t, goneB)
	})
}

func TestPointsWhoseTimeStandsStillAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, flow, stop := pair(t)
		defer stop()
		w, v := watch(t, a), watch(t, b)
		s := NewServer(a, nil)
		goneA, goneB := 0, 0
		for range 60 {
			s.export(exported("asr", 1000, "demand.queued_requests", 7), asr)
			flow()
			for range 10 {
				time.Sleep(time.Second)
				flow()
				if len(w.demand(t)) == 0 {
					goneA++
				}
				if len(v.demand(t)) == 0 {
					goneB++
				}
			}
		}
		require.Zero(t, goneA+goneB)
	})
}
