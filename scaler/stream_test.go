package scaler

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	"github.com/stretchr/testify/require"
)

func seconds(all ...float64) []time.Duration {
	var out []time.Duration
	for _, s := range all {
		out = append(out, time.Duration(s*float64(time.Second)))
	}
	return out
}

func TestStreamSendsTrueOnTheEdgeOnly(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		a := w.network.add("10.0.0.1:9090", asr(0))
		w.cluster.declare(onPods)
		w.cluster.update(func(wl *cluster.Workload) {
			wl.Replicas, wl.Pods = 1, []cluster.Pod{pod("a", "10.0.0.1", true)}
		})
		w.pass(1 * time.Second)
		stream := w.streamIsActive(onPods)
		w.pass(5 * time.Second)
		require.Empty(t, stream.times(), "not active: nothing to say")
		a.set(asr(1))
		w.pass(5 * time.Minute)
		require.Len(t, stream.times(), 1, "one edge, one message: above zero replicas nothing was lost")
		a.set(asr(0))
		w.pass(time.Minute)
		a.set(asr(2))
		w.pass(time.Minute)
		require.Len(t, stream.times(), 2)
	})
}

func TestStreamSendsTrueOnOpen(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		w.network.add("10.0.0.1:9090", asr(3))
		w.cluster.declare(onPods)
		w.cluster.update(func(wl *cluster.Workload) {
			wl.Replicas, wl.Pods = 1, []cluster.Pod{pod("a", "10.0.0.1", true)}
		})
		w.pass(1 * time.Second)
		require.Len(t, w.streamIsActive(onPods).times(), 1)
	})
}

func TestNewStreamWaitsForTheFirstReading(t *testing.T) {
	inBubble(t, false, func(t *testing.T, w *world) {
		for _, e := range []string{"a:9090", "b:9090", "c:9090"} {
			w.network.add(e, asr(0))
		}
		stream := w.streamIsActive(onEndpoints)
		w.pass(time.Minute)
		require.Empty(t, stream.times(), "a scaler that has just started must not wake an idle fleet")
	})
}

func TestActivationIsRepeatedUntilItTakesEffect(t *testing.T) {
	inBubble(t, false, func(t *testing.T, w *world) {
		for _, e := range []string{"a:9090", "b:9090", "c:9090"} {
			w.network.add(e, asr(2))
		}
		w.value(onEndpoints)
		w.pass(2 * time.Second)
		stream := w.streamIsActive(onEndpoints)
		w.pass(10 * time.Minute)
		require.Equal(t, seconds(0, 1, 3, 7, 15, 31), stream.times(), "without Kubernetes it cannot be seen; later and later, then no more")
	})
}

func TestStreamsEndCleanlyOnShutdown(t *testing.T) {
	inBubble(t, false, func(t *testing.T, w *world) {
		w.network.add("a:9090", asr(0))
		active := w.streamIsActive(onEndpoints)
		specs, err := w.client.StreamMetricSpec(context.Background(), ref(onEndpoints))
		require.NoError(t, err)
		spec, err := specs.Recv()
		require.NoError(t, err)
		require.Equal(t, 5.0, spec.GetMetricSpecs()[0].GetTargetSizeFloat())
		w.pass(time.Second)
		w.scaler.CloseStreams()
		_, err = specs.Recv()
		require.ErrorIs(t, err, io.EOF, "any other end makes KEDA wait for longer")
		w.pass(time.Millisecond)
		require.ErrorIs(t, active.ended, io.EOF)
	})
}
