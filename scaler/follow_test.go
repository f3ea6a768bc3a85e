package scaler

import (
	"fmt"
	"testing"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	"github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"github.com/stretchr/testify/require"
)

var (
	leading   = map[string]string{"engine": "lightning-asr", "hold": "0s"}
	following = map[string]string{"follow": "lightning-asr", "ratio": "2"}
)

// follower is how many API pods a trigger of the ScaledObject api asks for.
func (w *world) follower(metadata map[string]string) float64 {
	ref := &externalscaler.ScaledObjectRef{Namespace: "asr", Name: "api", ScalerMetadata: metadata}
	reply, err := w.client.GetMetrics(w.t.Context(), &externalscaler.GetMetricsRequest{MetricName: "m", ScaledObjectRef: ref})
	require.NoError(w.t, err)
	spec, err := w.client.GetMetricSpec(w.t.Context(), ref)
	require.NoError(w.t, err)
	active, err := w.client.IsActive(w.t.Context(), ref)
	require.NoError(w.t, err)
	require.True(w.t, active.GetResult(), "a follower is always active")
	return reply.GetMetricValues()[0].GetMetricValueFloat() / spec.GetMetricSpecs()[0].GetTargetSizeFloat()
}

func TestTheAPITierFollows(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		a := w.network.add("10.0.0.1:9090", asr(4))
		w.cluster.declare(leading)
		w.has(1, pod("a", "10.0.0.1", true))
		w.cluster.updateOf("api", "api", func(wl *cluster.Workload) { wl.Replicas = 1 })
		w.cluster.declareOf("api", following)
		w.pass(2 * time.Second)
		require.Equal(t, 0.5, w.follower(following))

		// 150 at a target of 5 are 30 replicas, and the leader's maximum is 10.
		a.set(asr(150))
		w.pass(1100 * time.Millisecond)
		require.Equal(t, 150.0, w.value(leading))
		require.Equal(t, 5.0, w.follower(following), "at the same instant, and not 15")

		// The load ends, and the pods drain: the API tier waits for them.
		pods := []cluster.Pod{pod("a", "10.0.0.1", true)}
		for _, name := range []string{"b", "c", "d", "e", "f"} {
			p := pod(name, "", true)
			pods = append(pods, p)
		}
		w.has(6, pods...)
		a.set(asr(0))
		w.pass(2 * time.Second)
		for i := range pods[1:] {
			pods[1+i].Terminating, pods[1+i].Ready = true, false
		}
		w.has(1, pods...)
		w.pass(2 * time.Second)
		require.Equal(t, 3.0, w.follower(following))
		w.has(1, pods[0])
		w.pass(2 * time.Second)
		require.Equal(t, 0.5, w.follower(following))

		// Asleep, it stays at 1.
		w.has(0)
		w.pass(2 * time.Second)
		require.Equal(t, 0.5, w.follower(following))
	})
}

func TestPausedLeaderCountsItsReplicas(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		w.network.add("10.0.0.1:9090", asr(150))
		w.cluster.declare(leading)
		w.has(4, pod("a", "10.0.0.1", true))
		w.cluster.updateOf("api", "api", func(wl *cluster.Workload) { wl.Replicas = 1 })
		w.cluster.declareOf("api", following)
		w.cluster.update(func(wl *cluster.Workload) { wl.Paused = true })
		w.cluster.changed("asr", "api")
		w.pass(2 * time.Second)
		require.Equal(t, 2.0, w.follower(following))
	})
}

// A follower with a load of its own takes the larger of both answers.
func TestAFollowerWithALoadOfItsOwn(t *testing.T) {
	metadata := map[string]string{"follow": "Deployment/lightning-asr", "ratio": "0.5", "query": "sum(connections)", "target": "10", "port": "80", "hold": "0s"}
	inBubble(t, true, func(t *testing.T, w *world) {
		w.network.add("10.0.0.1:9090", asr(8))
		api := w.network.add("10.0.1.1:80", "connections 5\n")
		w.cluster.declare(leading)
		w.has(1, pod("a", "10.0.0.1", true))
		w.cluster.updateOf("api", "api", func(wl *cluster.Workload) {
			wl.Replicas, wl.Pods = 1, []cluster.Pod{pod("api", "10.0.1.1", true)}
		})
		w.cluster.declareOf("api", metadata)
		w.pass(2 * time.Second)
		require.Equal(t, 4.0, w.follower(metadata), "two API pods for each of 2")
		api.set("connections 75\n")
		w.pass(2 * time.Second)
		require.Equal(t, 7.5, w.follower(metadata))
	})
}

func TestALeaderThatIsNotThere(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		w.cluster.updateOf("api", "api", func(wl *cluster.Workload) { wl.Replicas = 3 })
		w.cluster.declareOf("api", following)
		w.pass(time.Minute)
		require.Equal(t, 3.0, w.follower(following), "what there is stands")
		require.True(t, w.recorder.has("LeaderFault"))
	})
}

func TestACycleOfFollowersIsRefused(t *testing.T) {
	back := map[string]string{"follow": "api"}
	inBubble(t, true, func(t *testing.T, w *world) {
		w.has(1)
		w.cluster.updateOf("api", "api", func(wl *cluster.Workload) { wl.Replicas = 1 })
		w.cluster.declare(back)
		w.cluster.declareOf("api", following)
		w.pass(10 * time.Second)
		_, err := w.client.GetMetrics(t.Context(), &externalscaler.GetMetricsRequest{MetricName: "m", ScaledObjectRef: &externalscaler.ScaledObjectRef{Namespace: "asr", Name: "api", ScalerMetadata: following}})
		require.ErrorContains(t, err, `follow: "lightning-asr"; a workload cannot follow itself: api → lightning-asr → api`)

		_, err = w.client.GetMetrics(t.Context(), &externalscaler.GetMetricsRequest{MetricName: "m", ScaledObjectRef: ref(map[string]string{"follow": "lightning-asr"})})
		require.ErrorContains(t, err, `a workload cannot follow itself: lightning-asr → lightning-asr`)
	})
}

// A trigger that was edited is kept for a while, and meanwhile leads no workload.
func TestFormerTriggerOfTheLeader(t *testing.T) {
	before := map[string]string{"engine": "lightning-asr", "hold": "0s", "target": "5"}
	after := map[string]string{"engine": "lightning-asr", "hold": "0s", "target": "40"}
	inBubble(t, true, func(t *testing.T, w *world) {
		w.network.add("10.0.0.1:9090", asr(40))
		w.cluster.declare(before)
		w.has(1, pod("a", "10.0.0.1", true))
		w.cluster.updateOf("api", "api", func(wl *cluster.Workload) { wl.Replicas = 1 })
		w.cluster.declareOf("api", following)
		w.pass(2 * time.Second)
		require.Equal(t, 4.0, w.follower(following))
		w.cluster.declare(after)
		w.pass(2 * time.Second)
		require.Equal(t, 0.5, w.follower(following))
	})
}

// A cycle that another workload's trigger makes does not keep this one from its own load.
func TestCycleBySomebodyElse(t *testing.T) {
	own := map[string]string{"engine": "lightning-asr", "hold": "0s", "follow": "api"}
	inBubble(t, true, func(t *testing.T, w *world) {
		a := w.network.add("10.0.0.1:9090", asr(5))
		w.cluster.updateOf("api", "api", func(wl *cluster.Workload) { wl.Replicas = 1 })
		w.cluster.declare(own)
		w.has(1, pod("a", "10.0.0.1", true))
		w.pass(3 * time.Second)
		require.Equal(t, 5.0, w.value(own))
		// Another ScaledObject now follows it.
		w.cluster.declareOf("api", map[string]string{"follow": "lightning-asr"})
		w.cluster.changed("asr", "fleet") // as a follower of api
		w.pass(3 * time.Second)
		a.set(asr(40))
		w.pass(3 * time.Second)
		require.Equal(t, 40.0, w.value(own))
		w.cluster.update(func(wl *cluster.Workload) { wl.Replicas = 8 })
		a.set(asr(5))
		w.pass(3 * time.Second)
		require.Equal(t, 5.0, w.value(own), "its own load alone decides, downwards too")
		require.Contains(t, w.why().Faults[0], "a workload cannot follow itself: lightning-asr → api → lightning-asr")
	})
}

// Each of many follows all of the next ones: the number of paths is exponential.
func TestManyLeaders(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		const layers, wide = 12, 6
		name := func(layer, i int) string { return fmt.Sprintf("w%d-%d", layer, i) }
		for layer := range layers {
			for i := range wide {
				w.cluster.updateOf(name(layer, i), name(layer, i), func(wl *cluster.Workload) { wl.Replicas, wl.MaxReplicas = 1, 100 })
			}
		}
		for layer := range layers - 1 {
			for i := range wide {
				var triggers []map[string]string
				for j := range wide {
					triggers = append(triggers, map[string]string{"follow": name(layer+1, j)})
				}
				w.cluster.declareOf(name(layer, i), triggers...)
			}
		}
		w.pass(time.Minute)
		require.Equal(t, (layers-1)*wide*wide, w.open())
		w.cluster.changed("asr", name(0, 0))
		w.pass(time.Minute)
		require.NoError(t, w.last(name(0, 0), map[string]string{"follow": name(1, 0)}).Err)
	})
}

// Two workloads follow each other, each with another leader besides, who is looked at in
// no order.
func TestCycleThroughASecondTrigger(t *testing.T) {
	for range 12 {
		inBubble(t, true, func(t *testing.T, w *world) {
			for _, n := range []string{"c", "d", "x", "y"} {
				w.cluster.updateOf(n, n, func(wl *cluster.Workload) { wl.Replicas, wl.MaxReplicas = 1, 100 })
			}
			xy := map[string]string{"follow": "y", "ratio": "0.5"}
			w.cluster.declareOf("x", map[string]string{"follow": "c"}, xy)
			w.cluster.declareOf("y", map[string]string{"follow": "d"}, map[string]string{"follow": "x", "ratio": "0.5"})
			w.pass(time.Minute)
			w.cluster.changed("asr", "x") // as a follower of y
			w.pass(time.Minute)
			a := w.last("x", xy)
			require.ErrorContains(t, a.Err, "a workload cannot follow itself")
			require.True(t, a.Decision == nil || a.Decision.Replicas <= 2, "neither has any load")
		})
	}
}

// A cycle of three ends, and only its direct followers are notified.
func TestCycleOfThreeEnds(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		for _, n := range []string{"a", "b", "c"} {
			w.cluster.updateOf(n, n, func(wl *cluster.Workload) { wl.Replicas, wl.MaxReplicas = 1, 100 })
		}
		fa, fb := map[string]string{"follow": "b"}, map[string]string{"follow": "c"}
		own := map[string]string{"engine": "lightning-asr", "hold": "0s"}
		w.cluster.declareOf("c", own)
		w.cluster.declareOf("b", fb)
		w.cluster.declareOf("a", fa)
		w.pass(time.Minute)
		a := func() error { return w.last("a", fa).Err }
		b := func() error { return w.last("b", fb).Err }
		require.NoError(t, a())
		require.NoError(t, b())

		// c follows a by mistake, for a while.
		w.cluster.declareOf("c", own, map[string]string{"follow": "a"})
		w.cluster.changed("asr", "b") // as a direct follower of c
		w.pass(time.Second)
		w.cluster.changed("asr", "a") // a pod of b, which a follows
		w.pass(time.Minute)
		require.Error(t, a())
		require.Error(t, b())

		w.cluster.declareOf("c", own)
		w.cluster.changed("asr", "b") // as a direct follower of c: kubernetes/index.go notifies only those
		w.pass(time.Hour)
		require.NoError(t, b(), "b")
		require.NoError(t, a(), "a")
	})
}
