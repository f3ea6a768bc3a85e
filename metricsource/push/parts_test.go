package push

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	"google.golang.org/protobuf/types/known/durationpb"

	demandv1 "github.com/inference-scaler/inference-scaler/proto/demand/v1"
)

// Parts of one moment may come in any order, by two ways, and late: of each series the
// latest word counts.
func TestPartsInAnyOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := running(t)
		defer stop()
		server, w := NewServer(s, nil), watch(t, s)
		for i := range 3 {
			at := uint64(time.Now().UnixNano())
			require.Nil(t, server.export(exported("asr", at+100_000, "other.metric", 1), asr).GetPartialSuccess())
			require.Nil(t, server.export(exported("asr", at, "demand.queued_requests", float64(i*100)), asr).GetPartialSuccess())
			require.EqualValues(t, 1, server.export(exported("asr", at-1, "demand.queued_requests", 99), asr).GetPartialSuccess().GetRejectedDataPoints())
			require.Equal(t, map[string]float64{"api-0": float64(i * 100)}, w.demand(t))
			time.Sleep(time.Minute)
		}
	})
}

func TestPartsOfALaggingExporter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := running(t)
		defer stop()
		server, w := NewServer(s, nil), watch(t, s)
		wrong := 0
		for i := range 600 {
			now := time.Now()
			if i%5 == 0 {
				server.export(exported("asr", uint64(now.UnixNano()), "other.metric", 1), asr)
			}
			if i%15 == 11 {
				queued := 0.0
				if i > 60 {
					queued = 500
				}
				server.export(exported("asr", uint64(now.Add(-10*time.Second).UnixNano()), "demand.queued_requests", queued), asr)
			}
			if i > 80 && w.demand(t)["api-0"] != 500 {
				wrong++
			}
			time.Sleep(time.Second)
		}
		require.Zero(t, wrong, "seconds of 520 in which the demand of 500 was not known")
	})
}

// What two exporters say, or one twice, soon after each other is not their interval.
func TestPartsSoonAfterEachOther(t *testing.T) {
	for name, second := range map[string]func(at uint64) uint64{
		"one that is retried":  func(at uint64) uint64 { return at },
		"some that are forced": func(uint64) uint64 { return uint64(time.Now().UnixNano()) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, stop := running(t)
				defer stop()
				server, w := NewServer(s, nil), watch(t, s)
				gone, at := 0, uint64(0)
				for i := range 600 {
					switch i % 60 {
					case 0:
						at = uint64(time.Now().UnixNano())
						server.export(exported("asr", at, "demand.queued_requests", 7), asr)
					case 2, 3, 4, 5, 6, 7:
						server.export(exported("asr", second(at), "demand.queued_requests", 7), asr)
					}
					synctest.Wait()
					if len(w.demand(t)) == 0 {
						gone++
					}
					time.Sleep(time.Second)
				}
				require.Zero(t, gone, "seconds of 600")
			})
		})
	}
}

// Two Collectors export the same series, each every minute.
func TestPartsOfTwoCollectors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := running(t)
		defer stop()
		server, w := NewServer(s, nil), watch(t, s)
		for i := range 600 {
			if i%60 == 0 || i%60 == 2 {
				server.export(exported("asr", uint64(time.Now().UnixNano()), "demand.queued_requests", 7), asr)
			}
			synctest.Wait()
			require.NotEmpty(t, w.demand(t))
			time.Sleep(time.Second)
		}
	})
}

// What an exporter could not send for a while comes at once.
func TestPartsThatWaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := running(t)
		defer stop()
		server, w := NewServer(s, nil), watch(t, s)
		for range 8 {
			server.export(exported("asr", uint64(time.Now().UnixNano()), "demand.queued_requests", 7), asr)
			time.Sleep(time.Minute)
		}
		for i := range 8 {
			server.export(exported("asr", uint64(time.Now().Add(time.Duration(i-8)*time.Minute).UnixNano()), "demand.queued_requests", 7), asr)
		}
		for range 140 {
			time.Sleep(time.Second)
			synctest.Wait()
			require.Equal(t, map[string]float64{"api-0": 7}, w.demand(t))
		}
	})
}

func TestPartsByAClockThatWasSetBack(t *testing.T) {
	s := NewStore(nil)
	server, w := NewServer(s, nil), watch(t, s)
	now := time.Now()
	require.Nil(t, server.export(exported("asr", uint64(now.Add(time.Hour).UnixNano()), "demand.queued_requests", 7), asr).GetPartialSuccess())
	require.Nil(t, server.export(exported("asr", uint64(now.UnixNano()), "demand.queued_requests", 8), asr).GetPartialSuccess())
	require.Equal(t, map[string]float64{"api-0": 8}, w.demand(t))
}

// All that one replica knew of an instance has ended, and not what another knows.
func TestPartsAfterAPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, stopA := running(t)
		defer stopA()
		b, stopB := running(t)
		defer stopB()
		w, v := watch(t, b), watch(t, a)
		require.Nil(t, NewServer(b, nil).export(exported("asr", uint64(time.Now().UnixNano()), "demand.queued_requests", 7), asr).GetPartialSuccess())
		for range 8 {
			time.Sleep(time.Second)
			NewServer(a, nil).export(exported("asr", uint64(time.Now().UnixNano()), "other.metric", 1), asr)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.Equal(t, map[string]float64{"api-0": 7}, w.demand(t))
		for _, r := range a.standing() { // they see each other again
			require.NoError(t, b.take(r, []string{everywhere}, relayed))
		}
		for _, r := range b.standing() {
			require.NoError(t, a.take(r, []string{everywhere}, relayed))
		}
		require.Equal(t, map[string]float64{"api-0": 7}, w.demand(t), "said 18 s ago, and stands for 150 s")
		require.Equal(t, map[string]float64{"api-0": 7}, v.demand(t))
		time.Sleep(131 * time.Second)
		synctest.Wait()
		require.Equal(t, map[string]float64{"api-0": 7}, v.demand(t))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Empty(t, v.demand(t), "for as long there, too")
		require.Empty(t, w.demand(t))
	})
}

func TestRelayThatLags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := NewStore(nil), NewStore(nil)
		toB := newRelay()
		a.relays[toB] = struct{}{}
		w := watch(t, b)
		NewServer(a, nil).export(exported("asr", uint64(time.Now().UnixNano()), "demand.queued_requests", 0), asr)
		time.Sleep(3 * time.Second)
		NewServer(b, nil).export(exported("asr", uint64(time.Now().UnixNano()), "demand.queued_requests", 500), asr)
		time.Sleep(2 * time.Second)
		require.ErrorIs(t, b.take(<-toB.queue, []string{everywhere}, relayed), errStale, "what A heard 3 s before that")
		require.Equal(t, map[string]float64{"api-0": 500}, w.demand(t))
	})
}

// What waited for the store's lock is of no other moment than it got it.
func TestPartsThatOvertakeEachOther(t *testing.T) {
	here, there := NewStore(nil), NewStore(nil)
	r := newRelay()
	here.relays[r] = struct{}{}
	var g sync.WaitGroup
	for i := range 4 {
		g.Go(func() {
			for range 1000 {
				NewServer(here, nil).export(exported("asr", uint64(time.Now().UnixNano()), fmt.Sprintf("m%d", i), 1), asr)
				_ = here.standing()
			}
		})
	}
	g.Wait()
	for _, req := range here.standing() {
		require.NoError(t, there.take(req, []string{everywhere}, relayed))
	}
	for len(r.queue) > 0 {
		if err := there.take(<-r.queue, []string{everywhere}, relayed); err != nil {
			require.ErrorIs(t, err, errStale)
		}
	}
}

// A replica passes on what it is told, and not what it was told by another: a lag between
// them does not add up.
func TestLagIsAddedOnce(t *testing.T) {
	const lag = time.Second
	synctest.Test(t, func(t *testing.T) {
		a, stopA := running(t)
		defer stopA()
		b, stopB := running(t)
		defer stopB()
		toA := newRelay()
		toB := newRelay()
		a.relays[toB], b.relays[toA] = struct{}{}, struct{}{}
		for r, to := range map[*relay]*Store{toA: a, toB: b} {
			go func() {
				for req := range r.queue {
					time.AfterFunc(lag, func() { _ = to.take(req, []string{everywhere}, relayed) })
				}
			}()
		}
		w := watch(t, a)
		for i := range 8 {
			NewServer([]*Store{a, b}[i%2], nil).export(exported("asr", uint64(time.Now().UnixNano()), "demand.queued_requests", 7), asr)
			time.Sleep(10 * time.Second)
		}
		for range 30 {
			now := uint64(time.Now().UnixNano())
			NewServer(a, nil).export(exported("asr", now, "other.metric", 1), asr)
			NewServer(b, nil).export(exported("asr", now, "third.metric", 1), asr)
			time.Sleep(time.Second)
		}
		require.Empty(t, w.demand(t), "said 40 s ago, and every 10 s before that")
		time.Sleep(10 * time.Second)
		close(toA.queue)
		close(toB.queue)
	})
}

// That one series of an instance ends needs no room.
func TestASeriesEndsWhereNoRoomIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := running(t)
		defer stop()
		server, w := NewServer(s, nil), watch(t, s)
		server.export(exported("asr", uint64(time.Now().UnixNano()), "x", 1), asr)
		time.Sleep(90*time.Second + 7*time.Millisecond + 3)
		req := exported("asr", uint64(time.Now().UnixNano()), "demand.queued_requests", 7)
		scope := req.ResourceMetrics[0].ScopeMetrics[0]
		for i := range 200 {
			scope.Metrics = append(scope.Metrics, exported("asr", uint64(time.Now().UnixNano()), fmt.Sprintf("m%d", i), 1).ResourceMetrics[0].ScopeMetrics[0].Metrics...)
		}
		require.Nil(t, server.export(req, asr).GetPartialSuccess())
		for size := 100; size >= 0; size -= 100 { // until the namespace is full
			for i, full := 0, false; !full; i++ {
				r := queued(1, 1)
				r.Instance, r.Workload, r.TimeToLive = strconv.Itoa(i), fmt.Sprint("other", size), durationpb.New(10*time.Minute)
				for k := range size {
					r.Samples = append(r.Samples, &demandv1.Sample{Name: "m", Value: 1, Labels: map[string]string{"a": strings.Repeat("x", 1000), "k": strconv.Itoa(k)}})
				}
				full = s.take(r, asr, told) != nil
			}
		}
		time.Sleep(62 * time.Second)
		synctest.Wait()
		require.Equal(t, map[string]float64{"api-0": 7}, w.demand(t), "said 62 s ago, and stands for 150 s")
	})
}

// Where none of a part is taken, all of it is refused.
func TestRefusedByNumber(t *testing.T) {
	s := NewStore(nil)
	server := NewServer(s, nil)
	many := func(prefix string, n, size int) int64 {
		at := uint64(time.Now().UnixNano())
		req := exported("asr", at, prefix, 7)
		scope := req.ResourceMetrics[0].ScopeMetrics[0]
		for i := range n - 1 {
			m := exported("asr", at, fmt.Sprintf("%s.m%d", prefix, i), 1).ResourceMetrics[0].ScopeMetrics[0].Metrics[0]
			for k := range size {
				kv := exported(strings.Repeat("x", 1000), at, "", 1).ResourceMetrics[0].Resource.Attributes[0]
				kv.Key = fmt.Sprint("k", k)
				m.GetGauge().DataPoints[0].Attributes = append(m.GetGauge().DataPoints[0].Attributes, kv)
			}
			scope.Metrics = append(scope.Metrics, m)
		}
		return server.export(req, asr).GetPartialSuccess().GetRejectedDataPoints()
	}
	require.Zero(t, many("demand", 200, 0))
	require.EqualValues(t, 100, many("node", 100, 5), "too many series, and too many bytes")
}

func TestPartsThatWereTakenBackStayTakenBack(t *testing.T) {
	a, b := NewStore(nil), NewStore(nil)
	toB := newRelay()
	a.relays[toB] = struct{}{}
	NewServer(a, nil).export(exported("asr", 100, "demand.queued_requests", 7), asr)
	require.NoError(t, b.take(<-toB.queue, []string{everywhere}, relayed))
	back := queued(200, 0)
	back.TimeToLive = durationpb.New(0)
	require.NoError(t, a.take(back, asr, told)) // no stream now
	for _, r := range b.standing() {
		require.ErrorIs(t, a.take(r, []string{everywhere}, relayed), errStale)
	}
	for _, r := range a.standing() {
		require.NoError(t, b.take(r, []string{everywhere}, relayed))
	}
	require.Empty(t, watch(t, b).demand(t))
}

// Series beyond those that there is room for are refused, and what is known stays.
func TestMorePartsThanRoom(t *testing.T) {
	s := NewStore(nil)
	server, w := NewServer(s, nil), watch(t, s)
	many := func(at uint64, prefix string, n int) *collectorpb.ExportMetricsPartialSuccess {
		req := exported("asr", at, prefix, 7)
		scope := req.ResourceMetrics[0].ScopeMetrics[0]
		for i := range n - 1 {
			scope.Metrics = append(scope.Metrics, exported("asr", at, fmt.Sprintf("%s.m%d", prefix, i), 1).ResourceMetrics[0].ScopeMetrics[0].Metrics...)
		}
		return server.export(req, asr).GetPartialSuccess()
	}
	require.Nil(t, many(1, "demand.queued_requests", 10))
	refused := many(2, "node", 250)
	require.EqualValues(t, 4, refused.GetRejectedDataPoints())
	require.Equal(t, "too much: 4 more series of this instance; at most 256", refused.GetErrorMessage())
	require.Equal(t, map[string]float64{"api-0": 7}, w.demand(t))
	require.Nil(t, many(3, "demand.queued_requests", 10))
}

// That a series has ended is no word of its instance's.
func TestAnInstanceIsAsOldAsItsLastWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := running(t)
		defer stop()
		server, w := NewServer(s, nil), watch(t, s)
		for range 7 {
			server.export(exported("asr", uint64(time.Now().UnixNano()), "other.metric", 1), asr)
			time.Sleep(10 * time.Second)
		}
		server.export(exported("asr", uint64(time.Now().UnixNano()), "demand.queued_requests", 7), asr)
		time.Sleep(100 * time.Second) // nothing comes any more
		synctest.Wait()
		require.Equal(t, map[string]float64{"api-0": 7}, w.demand(t))
		require.Len(t, s.reporters[workload{"asr", "lightning-asr"}]["api-0"].report.samples, 1, "the other has ended")
		require.Equal(t, 100*time.Second, time.Since(w.Status()[0].Answered))
	})
}

func TestReporterMayNotSetWhatReplicasTell(t *testing.T) {
	for name, sample := range map[string]*demandv1.Sample{
		"timeToLive": {TimeToLive: durationpb.New(time.Second)}, "age": {Age: durationpb.New(time.Second)}, "moment": {Moment: 1},
	} {
		req := queued(1, 1)
		sample.Name = "demand_queued_requests"
		req.Samples = append(req.Samples, sample)
		require.ErrorContains(t, NewStore(nil).take(req, asr, told), "sample demand_queued_requests: timeToLive, age and moment are between replicas", name)
	}
}

// running is a store whose reports end when their time is over.
func running(t *testing.T) (*Store, func()) {
	s := NewStore(nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Run(ctx) }()
	return s, func() { cancel(); <-done }
}
