package keda

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A stream opened on a busy fleet says so at once: KEDA may have missed the edge.
func TestPushOnOpen(t *testing.T) {
	t.Parallel()
	scaler := startScaler(t, anyPort)
	servers := startFleet(t, asr(3, 0, 0, 0))
	k := newPushScaler(t, config(t, trigger{"engine": "lightning-asr"}.at(scaler.grpc, servers)))
	settles(t, k, spec(t, k).Metric.Name, "3", true)

	opened := time.Now()
	latency := follow(t, k).arrives(t, opened, patience)
	t.Logf("first message %s after the stream was opened", latency)
}

// The edge from idle to busy is pushed, each time; the way back is not.
func TestPushOnEdge(t *testing.T) {
	t.Parallel()
	scaler := startScaler(t, anyPort)
	servers := startFleet(t, vllm(0, 0), vllm(0, 0))
	k := newPushScaler(t, config(t, trigger{"engine": "vllm"}.at(scaler.grpc, servers)))
	metric := spec(t, k).Metric.Name
	settles(t, k, metric, "0", false)

	pushed := follow(t, k)
	specArrives(t, k)
	require.Empty(t, pushed.activities(), "an idle fleet has nothing to say")
	for range 3 {
		edge := time.Now()
		servers[1].set(vllm(1, 0))
		t.Logf("edge pushed after %s", pushed.arrives(t, edge, 10*time.Second))
		settles(t, k, metric, "1", true)

		servers[1].set(vllm(0, 0))
		settles(t, k, metric, "0", false)
	}
}

// activation is the load up to which a fleet may sleep.
func TestPushAboveActivation(t *testing.T) {
	t.Parallel()
	scaler := startScaler(t, anyPort)
	servers := startFleet(t, vllm(0, 2))
	metadata := trigger{"engine": "vllm", "activation": "2"}.at(scaler.grpc, servers)
	k := newPushScaler(t, config(t, metadata))
	settles(t, k, spec(t, k).Metric.Name, "0", false)

	pushed := follow(t, k)
	specArrives(t, k)
	require.Empty(t, pushed.activities())
	edge := time.Now()
	servers[0].set(vllm(0, 3))
	pushed.arrives(t, edge, 10*time.Second)
}

// StreamMetricSpec delivers on open what GetMetricSpec answers: KEDA falls back
// to the latter whenever it rebuilds its scalers.
func TestSpecOnOpen(t *testing.T) {
	t.Parallel()
	scaler := startScaler(t, anyPort)
	servers := startFleet(t, vllm(0, 0))
	metadata := trigger{"engine": "vllm", "target": "2.5"}.at(scaler.grpc, servers)
	k := newPushScaler(t, config(t, metadata))

	follow(t, k)
	streamed := specArrives(t, k)
	require.Len(t, streamed, 1)
	require.Equal(t, int64(2500), streamed[0].External.Target.AverageValue.MilliValue())
	require.Equal(t, k.GetMetricSpecForScaling(t.Context()), streamed)
}

// KEDA may start before the scaler does: it gets no answer, which is not 0, and
// everything follows at its next retry.
func TestAbsentAtStart(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	servers := startFleet(t, vllm(2, 1))
	k := newPushScaler(t, config(t, trigger{"engine": "vllm"}.at(address, servers)))
	require.Empty(t, k.GetMetricSpecForScaling(t.Context()))
	_, _, err := k.GetMetricsAndActivity(t.Context(), "s0-any")
	require.Error(t, err)

	pushed := follow(t, k)
	started := time.Now()
	startScaler(t, address)
	t.Logf("pushed %s after the start", pushed.arrives(t, started, patience))
	specArrives(t, k)
	var metric string
	require.Eventually(t, func() bool {
		specs := k.GetMetricSpecForScaling(t.Context())
		if len(specs) == 1 {
			metric = specs[0].External.Metric.Name
		}
		return len(specs) == 1
	}, patience, tick)
	settles(t, k, metric, "2", true)
}

// A stop signal exits with 0 in time, with streams open.
func TestStopWithOpenStreams(t *testing.T) {
	t.Parallel()
	scaler := startScaler(t, anyPort)
	servers := startFleet(t, vllm(1, 0))
	k := newPushScaler(t, config(t, trigger{"engine": "vllm"}.at(scaler.grpc, servers)))
	opened := time.Now()
	follow(t, k).arrives(t, opened, patience)
	specArrives(t, k)
	require.Zero(t, scaler.stop(t, syscall.SIGTERM))
}
