package push

import (
	"context"
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
		s := NewStore(nil)
		server := NewServer(s, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = s.Run(ctx) }()
		defer func() { cancel(); <-done }()
		w := watch(t, s)
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
	r := &relay{queue: make(chan *demandv1.ReportRequest, 8), behind: make(chan struct{}, 1)}
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
	toA := &relay{queue: make(chan *demandv1.ReportRequest, 8), behind: make(chan struct{}, 1)}
	b.relays[toA] = struct{}{}
	said := queued(1, 5)
	said.TimeToLive = durationpb.New(10 * time.Minute)
	require.NoError(t, b.take(said, asr, told))
	require.NoError(t, a.take(<-toA.queue, []string{everywhere}, relayed))
	require.Equal(t, map[string]float64{"api-0": 5}, watch(t, a).demand(t))

	b = NewStore(nil) // restarted; what relayTo sends first to a new replica:
	for _, req := range a.standing(time.Now()) {
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
	require.NoError(t, a.take(back, asr, told))  // no stream now
	for _, req := range a.standing(time.Now()) { // the stream is there again
		require.NoError(t, b.take(req, []string{everywhere}, relayed))
	}
	require.Empty(t, watch(t, b).demand(t))
}

// Of two exporters of a pod one stops: what it said ends in time, and is not kept by the
// other, here and on the other replicas.
func TestPartsEndByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := NewStore(nil), NewStore(nil)
		to := &relay{queue: make(chan *demandv1.ReportRequest, 64), behind: make(chan struct{}, 1)}
		here.relays[to] = struct{}{}
		server := NewServer(here, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = here.Run(ctx) }()
		defer func() { cancel(); <-done }()
		w, v := watch(t, here), watch(t, there)
		demands := func() (float64, float64) {
			synctest.Wait()
			for len(to.queue) > 0 {
				require.NoError(t, there.take(<-to.queue, []string{everywhere}, relayed))
			}
			return w.demand(t)["api-0"], v.demand(t)["api-0"]
		}
		export := func(name string, value float64) {
			require.Nil(t, server.export(exported("asr", uint64(time.Now().UnixNano()), name, value), asr).GetPartialSuccess())
		}
		for range 3 {
			export("demand.queued_requests", 7)
			export("other.metric", 1) // every 5 s as well at first
			time.Sleep(5 * time.Second)
		}
		export("other.metric", 1)
		time.Sleep(4 * time.Second)
		a, b := demands()
		require.Equal(t, []float64{7, 7}, []float64{a, b})
		export("other.metric", 1)
		time.Sleep(4 * time.Second)
		a, b = demands()
		require.Equal(t, []float64{0, 0}, []float64{a, b}, "2.5 times 5 s are over")
		require.NotNil(t, here.reporters[workload{"asr", "lightning-asr"}]["api-0"].last, "the other stands")
	})
}
