package push

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	"google.golang.org/protobuf/types/known/durationpb"

	demandv1 "github.com/inference-scaler/inference-scaler/proto/demand/v1"
)

// running returns a store whose reports expire.
func running(t *testing.T, opts Options) (*Store, func()) {
	s := NewStore(opts)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Run(ctx) }()
	return s, func() { cancel(); <-done }
}

// stored returns a copy of what the store holds of api-0.
func stored(s *Store) reporter {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := *s.reporters[workload{"asr", "lightning-asr"}]["api-0"]
	r.series, r.ended = slices.Clone(r.series), maps.Clone(r.ended)
	return r
}

// exportNow exports one gauge with the present moment.
func exportNow(s *Store, name string, value float64) *collectorpb.ExportMetricsPartialSuccess {
	return NewServer(s, nil).export(exported("asr", uint64(time.Now().UnixNano()), name, value), asr).GetPartialSuccess()
}

func TestOTLPSeriesExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := running(t, Options{})
		defer stop()
		server, w := NewServer(s, nil), watch(t, s)
		export := func(namespace string, at uint64, name string, v float64) *collectorpb.ExportMetricsPartialSuccess {
			return server.export(exported(namespace, at, name, v), asr).GetPartialSuccess()
		}
		require.Nil(t, export("asr", 10, "demand.queued_requests", 4))
		time.Sleep(150*time.Second - time.Nanosecond)
		require.Equal(t, map[string]float64{"api-0": 4}, w.demand(t), "2.5 export intervals of an SDK")
		time.Sleep(time.Second)
		require.Empty(t, w.demand(t))

		for at := uint64(20); at < 30; at++ {
			require.Nil(t, export("asr", at, "demand.queued_requests", 5))
			time.Sleep(10 * time.Second)
		}
		require.Nil(t, export("asr", 30, "demand.queued_requests", 6))
		require.Nil(t, export("asr", 30, "something.else", 1))
		require.Equal(t, map[string]float64{"api-0": 6}, w.demand(t), "another series at the same moment")
		require.EqualValues(t, 1, export("asr", 29, "demand.queued_requests", 99).GetRejectedDataPoints(), "older")
		require.Contains(t, export("llm", 31, "demand.queued_requests", 99).GetErrorMessage(), "may not report")
		require.Contains(t, export("asr", 31, "demand.queued_requests", -1).GetErrorMessage(), "wanted: a number from 0")
		require.Equal(t, map[string]float64{"api-0": 6}, w.demand(t))
		time.Sleep(149 * time.Second)
		require.NotEmpty(t, w.demand(t))
		time.Sleep(2 * time.Second)
		require.Empty(t, w.demand(t), "an exporter that exported every 10 s gets no shorter time")

		require.Nil(t, export("asr", 40, "demand.queued_requests", 7))
		for at := uint64(50); at < 55; at++ {
			require.NotEmpty(t, w.demand(t))
			require.Nil(t, export("asr", at, "demand.requests", 2))
			time.Sleep(31 * time.Second)
		}
		require.Empty(t, w.demand(t), "a series expires although its instance exports another one")
		require.Contains(t, export("asr", 39, "demand.queued_requests", 99).GetErrorMessage(), errSuperseded.Error(), "older than the point that expired")
		require.Nil(t, export("asr", 41, "demand.queued_requests", 3))
		require.Equal(t, map[string]float64{"api-0": 3}, w.demand(t))
	})
}

func TestTimeToLiveOfOTLPSeries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := running(t, Options{TimeToLive: 20 * time.Second})
		defer stop()
		w := watch(t, s)
		require.Nil(t, exportNow(s, "demand.queued_requests", 4))
		time.Sleep(20*time.Second - time.Nanosecond)
		require.Equal(t, map[string]float64{"api-0": 4}, w.demand(t))
		time.Sleep(time.Second)
		require.Empty(t, w.demand(t))
	})
}

// A point may arrive when another series has just expired. The trigger is notified of its end.
func TestASeriesExpiresAsAnotherOneIsExported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewStore(Options{}) // whose timer is late
		w := watch(t, s)
		require.Nil(t, exportNow(s, "demand.queued_requests", 4))
		time.Sleep(time.Minute)
		require.Nil(t, exportNow(s, "other.metric", 1))
		before := w.changes()
		require.Nil(t, exportNow(s, "other.metric", 1))
		require.Equal(t, before, w.changes(), "nothing has changed")
		time.Sleep(100 * time.Second)
		require.Nil(t, exportNow(s, "other.metric", 1))
		require.Empty(t, w.demand(t))
		require.Equal(t, before+1, w.changes())
	})
}

// An exporter that is slower than the time to live is a fault of its reporter, on each
// replica. An export in time mends it.
func TestASeriesThatReturnsIsAFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there, flow, stop := pair(t)
		defer stop()
		w, v := watch(t, here), watch(t, there)
		export := func(name string, want string) {
			require.Nil(t, exportNow(here, name, 7))
			flow()
			for _, g := range []*watcher{w, v} {
				require.Equal(t, map[string]float64{"api-0": 7}, g.demand(t), "a fault changes no value")
				status := g.Status()[0]
				if want == "" {
					require.NoError(t, status.Err)
				} else {
					require.EqualError(t, status.Err, want, name)
				}
				require.Equal(t, time.Now(), status.Tried)
			}
		}
		const fault = "series demand_queued_requests expired before it was exported again (after 2m30s); raise --push-ttl or export more often"
		for range 3 {
			export("demand.queued_requests", "")
			time.Sleep(149 * time.Second)
		}
		export("demand.queued_requests", "")
		time.Sleep(5 * time.Minute)
		require.Empty(t, w.demand(t))
		require.Empty(t, w.Status())
		export("demand.queued_requests", fault)
		export("other.metric", fault)
		time.Sleep(time.Minute)
		export("demand.queued_requests", "")
		time.Sleep(4 * time.Minute) // other.metric expires, too
		export("demand.queued_requests", fault)
		time.Sleep(time.Minute)
		export("demand.queued_requests", "")
		export("other.metric", "") // a series that no query selects
	})
}

// Points may arrive in any order, by two exporters, and late. Of each series the newest counts.
func TestPointsInAnyOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := running(t, Options{})
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

func TestPointsOfALaggingExporter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := running(t, Options{})
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

// An exporter sends at once what it could not send for a while.
func TestPointsThatWaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := running(t, Options{})
		defer stop()
		server, w := NewServer(s, nil), watch(t, s)
		for range 8 {
			exportNow(s, "demand.queued_requests", 7)
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

func TestPointsOfAClockThatWasSetBack(t *testing.T) {
	s := NewStore(Options{})
	server, w := NewServer(s, nil), watch(t, s)
	now := time.Now()
	require.Nil(t, server.export(exported("asr", uint64(now.Add(time.Hour).UnixNano()), "demand.queued_requests", 7), asr).GetPartialSuccess())
	require.Nil(t, server.export(exported("asr", uint64(now.UnixNano()), "demand.queued_requests", 8), asr).GetPartialSuccess())
	require.Equal(t, map[string]float64{"api-0": 8}, w.demand(t))
}

func TestPointOfAnEarlierMoment(t *testing.T) {
	s := NewStore(Options{})
	w := watch(t, s)
	req := exported("asr", 1_000_000_500, "other.metric", 1)
	req.ResourceMetrics = append(req.ResourceMetrics, exported("asr", 1_000_000_000, "demand.queued_requests", 7).ResourceMetrics...)
	require.Nil(t, NewServer(s, nil).export(req, asr).GetPartialSuccess())
	require.Equal(t, map[string]float64{"api-0": 7}, w.demand(t))
}

func TestSeriesOfTwoExporters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := running(t, Options{})
		defer stop()
		w := watch(t, s)
		gone := 0
		for range 10 {
			require.Nil(t, exportNow(s, "demand.queued_requests", 7))
			time.Sleep(5 * time.Second)
			require.Nil(t, exportNow(s, "other.metric", 1))
			for range 55 {
				time.Sleep(time.Second)
				synctest.Wait()
				if len(w.demand(t)) == 0 {
					gone++
				}
			}
		}
		require.Zero(t, gone, "seconds of 600 in which the demand was gone, though exported every minute")
	})
}

// A complete report replaces all series, and later points add to it.
func TestPointsAfterAWithdrawal(t *testing.T) {
	s := NewStore(Options{})
	server, w := NewServer(s, nil), watch(t, s)
	require.Nil(t, server.export(exported("asr", 100, "demand.queued_requests", 7), asr).GetPartialSuccess())
	goodbye := queued(200, 0)
	goodbye.TimeToLive = nil
	require.NoError(t, s.accept(goodbye, asr, fromReporter))
	require.Empty(t, w.demand(t))
	require.Contains(t, server.export(exported("asr", 150, "demand.queued_requests", 7), asr).GetPartialSuccess().GetErrorMessage(), errSuperseded.Error())
	require.Empty(t, w.demand(t))
	require.Nil(t, server.export(exported("asr", 201, "demand.queued_requests", 8), asr).GetPartialSuccess())
	require.Equal(t, map[string]float64{"api-0": 8}, w.demand(t))
	require.NoError(t, w.Status()[0].Err, "the series was withdrawn, and did not expire")
}

// A series expires also where no quota is left.
func TestASeriesExpiresWithoutQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := running(t, Options{})
		defer stop()
		server, w := NewServer(s, nil), watch(t, s)
		exportNow(s, "x", 1)
		time.Sleep(90*time.Second + 7*time.Millisecond + 3)
		req := exported("asr", uint64(time.Now().UnixNano()), "demand.queued_requests", 7)
		scope := req.ResourceMetrics[0].ScopeMetrics[0]
		for i := range 200 {
			scope.Metrics = append(scope.Metrics, exported("asr", uint64(time.Now().UnixNano()), fmt.Sprintf("m%d", i), 1).ResourceMetrics[0].ScopeMetrics[0].Metrics...)
		}
		require.Nil(t, server.export(req, asr).GetPartialSuccess())
		for size := 100; size >= 0; size -= 100 { // until the quota of the namespace is used up
			for i, full := 0, false; !full; i++ {
				r := queued(1, 1)
				r.Instance, r.Workload, r.TimeToLive = strconv.Itoa(i), fmt.Sprint("other", size), durationpb.New(10*time.Minute)
				for k := range size {
					r.Samples = append(r.Samples, &demandv1.Sample{Name: "m", Value: 1, Labels: map[string]string{"a": strings.Repeat("x", 1000), "k": strconv.Itoa(k)}})
				}
				full = s.accept(r, asr, fromReporter) != nil
			}
		}
		time.Sleep(62 * time.Second)
		synctest.Wait()
		require.Equal(t, map[string]float64{"api-0": 7}, w.demand(t), "exported 62 s ago")
		require.Len(t, stored(s).series, 201, "x has expired")
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		require.Empty(t, s.usage)
	})
}

// many returns an export of n series, each with so many attributes of 1000 bytes.
func many(at uint64, prefix string, n, attributes int) *collectorpb.ExportMetricsServiceRequest {
	req := exported("asr", at, prefix, 7)
	scope := req.ResourceMetrics[0].ScopeMetrics[0]
	for i := range n - 1 {
		m := exported("asr", at, fmt.Sprintf("%s.m%d", prefix, i), 1).ResourceMetrics[0].ScopeMetrics[0].Metrics[0]
		for k := range attributes {
			kv := exported(strings.Repeat("x", 1000), at, "", 1).ResourceMetrics[0].Resource.Attributes[0]
			kv.Key = fmt.Sprint("k", k)
			m.GetGauge().DataPoints[0].Attributes = append(m.GetGauge().DataPoints[0].Attributes, kv)
		}
		scope.Metrics = append(scope.Metrics, m)
	}
	return req
}

// An export that exceeds a quota is refused as a whole. The series that are known remain.
func TestExportsHaveQuotas(t *testing.T) {
	s := NewStore(Options{})
	server, w := NewServer(s, nil), watch(t, s)
	export := func(at uint64, prefix string, n, attributes int) *collectorpb.ExportMetricsPartialSuccess {
		return server.export(many(at, prefix, n, attributes), asr).GetPartialSuccess()
	}
	require.Nil(t, export(1, "demand.queued_requests", 10, 0))
	refused := export(2, "node", 250, 0)
	require.EqualValues(t, 250, refused.GetRejectedDataPoints())
	require.Equal(t, "quota exceeded: 260 series of this instance; at most 256", refused.GetErrorMessage())
	require.Equal(t, map[string]float64{"api-0": 7}, w.demand(t))
	require.Nil(t, export(3, "demand.queued_requests", 10, 0))
	refused = export(4, "node", 100, 5)
	require.EqualValues(t, 100, refused.GetRejectedDataPoints())
	require.Contains(t, refused.GetErrorMessage(), "bytes; at most 262144")
	require.Nil(t, export(5, "node", 246, 0))
	require.EqualValues(t, 257, export(6, "node", 257, 0).GetRejectedDataPoints())
}

// The memory of expired series has the quota of the series.
func TestExpiredSeriesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := running(t, Options{TimeToLive: time.Second})
		defer stop()
		watch(t, s)
		for i := range 10 {
			require.Nil(t, NewServer(s, nil).export(many(uint64(time.Now().UnixNano()), fmt.Sprint("round", i), 200, 0), asr).GetPartialSuccess())
			time.Sleep(2 * time.Second)
			synctest.Wait()
			require.LessOrEqual(t, len(stored(s).ended), MaxSamples)
		}
		require.NotEmpty(t, stored(s).ended)
		for range 700 {
			require.Nil(t, exportNow(s, "other.metric", 1))
			time.Sleep(900 * time.Millisecond)
		}
		require.Empty(t, stored(s).ended)
	})
}

// The end of a series is no sign of life of its instance.
func TestAnInstanceIsAsOldAsItsLastPoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := running(t, Options{})
		defer stop()
		w := watch(t, s)
		for range 7 {
			exportNow(s, "other.metric", 1)
			time.Sleep(10 * time.Second)
		}
		exportNow(s, "demand.queued_requests", 7)
		time.Sleep(145 * time.Second) // nothing is exported any more
		synctest.Wait()
		require.Equal(t, map[string]float64{"api-0": 7}, w.demand(t))
		require.Len(t, stored(s).series, 1, "the other one has expired")
		require.Equal(t, 145*time.Second, time.Since(w.Status()[0].Answered))
	})
}

func TestReporterMayNotSetFieldsBetweenReplicas(t *testing.T) {
	for name, sample := range map[string]*demandv1.Sample{
		"timeToLive": {TimeToLive: durationpb.New(time.Second)}, "moment": {Moment: 1},
	} {
		req := queued(1, 1)
		sample.Name = "demand_queued_requests"
		req.Samples = append(req.Samples, sample)
		require.ErrorContains(t, NewStore(Options{}).accept(req, asr, fromReporter), "sample demand_queued_requests: timeToLive and moment are set between replicas only", name)
	}
}
