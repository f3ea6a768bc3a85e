package push

import (
	"context"
	"fmt"
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
		"a retried export":    func(at uint64) uint64 { return at },
		"a second Collector":  func(uint64) uint64 { return uint64(time.Now().UnixNano()) },
		"one that was forced": func(at uint64) uint64 { return at + 1 },
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
					case 2, 5:
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
		for _, r := range a.standing(time.Now()) { // they see each other again
			require.NoError(t, b.take(r, []string{everywhere}, relayed))
		}
		for _, r := range b.standing(time.Now()) {
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
		toB := &relay{queue: make(chan *demandv1.ReportRequest, 8), behind: make(chan struct{}, 1)}
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
		for range 6 {
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
