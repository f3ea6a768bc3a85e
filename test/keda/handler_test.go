package keda

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// idle starts a scaler and an idle fleet that it already knows to be idle, so that
// KEDA's first poll has no reason to activate. It returns the fleet, the metadata and
// the metric's name.
func idle(t *testing.T) (fleet, trigger, string) {
	t.Helper()
	scaler := startScaler(t, anyPort)
	servers := startFleet(t, vllm(0, 0))
	metadata := trigger{"engine": "vllm"}.at(scaler.grpc, servers)
	k := newScaler(t, config(t, metadata))
	metric := spec(t, k).Metric.Name
	settles(t, k, metric, "0", false)
	return servers, metadata, metric
}

// From the first waiting request to the write of /scale, through KEDA's own
// executor: no poll is near.
func TestHandlerActivatesOnPush(t *testing.T) {
	t.Parallel()
	servers, metadata, metric := idle(t)
	c := newCluster(t, metadata, pushOnly, metric)
	c.handle(t)
	require.Zero(t, c.replicas())

	edge := time.Now()
	servers[0].set(vllm(1, 0))
	require.Eventually(t, func() bool { return c.replicas() == 1 }, patience, time.Millisecond)
	t.Logf("activated %s after the request", time.Since(edge))
	require.Eventually(t, func() bool {
		status := c.scaledObject().Status
		return status.LastActiveTime != nil && status.TriggersActivity[metric].IsActive
	}, patience, tick)
}

// KEDA drops a push while the status does not name the metric yet, and says
// nothing. The scaler says it again while there is demand.
func TestHandlerDropsPushWithoutMetricName(t *testing.T) {
	t.Parallel()
	servers, metadata, metric := idle(t)
	c := newCluster(t, metadata, pushOnly)
	c.handle(t)

	before := c.looked.Load()
	servers[0].set(vllm(1, 0))
	require.Eventually(t, func() bool { return c.looked.Load() > before }, patience, tick, "nothing was pushed")
	require.Zero(t, c.replicas(), "KEDA no longer drops it")

	so := c.scaledObject()
	so.Status.ExternalMetricNames = []string{metric}
	require.NoError(t, c.Status().Update(context.Background(), so))
	named := time.Now()
	require.Eventually(t, func() bool { return c.replicas() == 1 }, patience, tick, "never asserted again")
	t.Logf("activated %s after the metric was named", time.Since(named))
}

// A failed write of /scale loses the push as well.
func TestHandlerLosesPushOnFailedWrite(t *testing.T) {
	t.Parallel()
	servers, metadata, metric := idle(t)
	c := newCluster(t, metadata, pushOnly, metric)
	c.handle(t)

	c.refuse.Store(true)
	servers[0].set(vllm(1, 0))
	require.Eventually(t, func() bool { return c.refused.Load() > 0 }, patience, tick, "nothing was pushed")
	require.Zero(t, c.replicas())

	c.refuse.Store(false)
	healed := time.Now()
	require.Eventually(t, func() bool { return c.replicas() == 1 }, patience, tick, "never asserted again")
	t.Logf("activated %s after writes worked again", time.Since(healed))
}

// The whole life of a fleet under KEDA: it wakes, an outage of its servers does
// not put it to sleep though KEDA polls every second, and idleness does.
func TestHandlerSleepsOnlyWhenIdle(t *testing.T) {
	t.Parallel()
	servers, metadata, metric := idle(t)
	c := newCluster(t, metadata, timing{polling: 1, cooldown: 1}, metric)
	c.handle(t)
	servers[0].set(vllm(1, 0))
	require.Eventually(t, func() bool { return c.replicas() == 1 }, patience, tick)

	servers[0].close()
	require.Never(t, func() bool { return c.replicas() != 1 }, outage, tick)

	servers[0].set(vllm(0, 0))
	servers[0].open(t)
	require.Eventually(t, func() bool { return c.replicas() == 0 }, patience, tick, "still awake")
}
