package demo

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/inference-scaler/inference-scaler/scaler/sim"
)

// burst is a list of arrivals.
type burst []sim.Arrival

func (b *burst) Next() (sim.Arrival, bool) {
	if len(*b) == 0 {
		return sim.Arrival{}, false
	}
	a := (*b)[0]
	*b = (*b)[1:]
	return a, true
}

func TestNetwork(t *testing.T) {
	d, err := New(fast(phase("quiet", time.Minute, 1)), "localhost:9090")
	require.NoError(t, err)
	// 5 requests at once, on replicas with 2 slots: 2 and 2 run, 1 waits.
	five := make(burst, 5)
	for i := range five {
		five[i] = sim.Arrival{At: d.world.epoch, Service: 10 * time.Second}
	}
	shape := sim.Shape{Name: "asr", Slots: 2, GPUs: 2, Start: 2 * time.Second, ModelLoad: 20 * time.Second}
	d.world.fleets[0] = sim.NewFleet(d.world.epoch, 2, shape, &five, sim.NewNodes([]int{8}), 0)

	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err = scrape(ctx, d, "10.244.0.3")
	require.ErrorIs(t, err, context.DeadlineExceeded, "a dial waits until the demo runs")

	ctx = t.Context()
	var g errgroup.Group
	require.NoError(t, d.network.reconcile(ctx, g.Go))
	families, err := scrape(ctx, d, "10.244.0.3")
	require.NoError(t, err)
	got := map[string]float64{}
	for name, family := range families {
		m := family.GetMetric()[0]
		got[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
	}
	require.Equal(t, map[string]float64{
		"asr_active_requests": 2, "asr_active_streams": 0, "asr_batch_queue_depth": 1, "asr_stream_queue_depth": 0,
		"asr_gpu_utilization": 100, "asr_gpu_memory_used_bytes": 9<<30 + 2*700<<20,
		"asr_total_requests": 0, "asr_failed_requests": 0, "asr_request_duration_seconds": 0,
	}, got)

	// Ten seconds later, two requests of this replica are finished.
	d.world.fleets[0].Advance(d.world.epoch.Add(10 * time.Second))
	families, err = scrape(ctx, d, "10.244.0.3")
	require.NoError(t, err)
	h := families["asr_request_duration_seconds"].GetMetric()[0].GetHistogram()
	require.EqualValues(t, 2, h.GetSampleCount())
	require.InDelta(t, 20, h.GetSampleSum(), 1e-9)
	require.EqualValues(t, 2, h.GetBucket()[4].GetCumulativeCount())

	// A removed replica stops responding. A new one reports zeros while it loads.
	d.world.fleets[0].Scale(1)
	_, err = scrape(ctx, d, "10.244.0.4")
	require.ErrorContains(t, err, "503", "its server still runs")
	d.world.fleets[0].Scale(2)
	require.NoError(t, d.network.reconcile(ctx, g.Go))
	_, err = scrape(ctx, d, "10.244.0.4")
	require.ErrorContains(t, err, "no pod has the IP 10.244.0.4")
	families, err = scrape(ctx, d, "10.244.0.5")
	require.NoError(t, err)
	require.Zero(t, families["asr_active_requests"].GetMetric()[0].GetGauge().GetValue())

	require.NoError(t, d.network.close())
	require.NoError(t, g.Wait())
	_, err = d.DialContext(ctx, "tcp", "no port")
	require.Error(t, err)
}
