package scaler

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/scaler/explain"
)

const gpu = "nvidia.com/gpu"

// oneGPU is the template of replicas that hold one GPU each.
var oneGPU = &cluster.PodTemplate{Requests: cluster.Resources{gpu: 1, "pods": 1}}

// provide makes the cluster one of nodes with so many GPUs.
func (c *fakeCluster) provide(gpus ...int64) {
	c.mu.Lock()
	c.nodes = nil
	for i, n := range gpus {
		c.nodes = append(c.nodes, &cluster.Node{
			NodeSpec: &cluster.NodeSpec{Name: fmt.Sprint("n", i), Ready: true, Allocatable: cluster.Resources{gpu: n, "pods": 110}},
			Held:     cluster.Resources{},
		})
	}
	c.mu.Unlock()
	c.moved()
}

// hold has others hold GPUs of the first node.
func (c *fakeCluster) hold(gpus int64) {
	c.mu.Lock()
	n := *c.nodes[0]
	n.Held = cluster.Resources{gpu: gpus}
	c.nodes[0] = &n
	c.mu.Unlock()
	c.moved()
}

// gpuFleet is a fleet whose replicas hold a GPU each, with one pod that runs on none of
// the nodes, and as much load as w.network's server says.
func (w *world) gpuFleet(metadata map[string]string) *server {
	a := w.network.add("10.0.0.1:9090", asr(4))
	w.cluster.declare(metadata)
	w.cluster.update(func(wl *cluster.Workload) {
		wl.Template, wl.Replicas, wl.MaxReplicas = oneGPU, 1, 50
		wl.Pods = []cluster.Pod{pod("a", "10.0.0.1", true)}
		wl.Pods[0].Node = "elsewhere"
	})
	return a
}

func (w *world) why() explain.Explanation {
	all := w.evaluator.Explanations(func(_, name string) bool { return name == "fleet" })
	require.Len(w.t, all, 1)
	return all[0]
}

func TestNoMoreThanTheGPUsHold(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		w.cluster.provide(4, 3)
		a := w.gpuFleet(leading)
		w.pass(2 * time.Second)
		require.Equal(t, 4.0, w.value(leading), "as measured")
		require.Empty(t, w.recorder.take("CapacityLimited"))

		a.set(asr(100))
		w.pass(1100 * time.Millisecond)
		require.Equal(t, 40.0, w.value(leading), "one bound, and seven free")
		e := w.why()
		require.Equal(t, 20, *e.DemandReplicas)
		require.Equal(t, 100.0, *e.Demand)
		require.True(t, e.Capacity.Limited)
		require.Equal(t, 8, *e.Capacity.Replicas)
		require.Equal(t, "1 nvidia.com/gpu per replica: 1 bound, and 7 more fit on 7 free devices", e.Capacity.Why)
		require.Equal(t, "capacity", e.Steps[len(e.Steps)-1].Rule)
		expected := `
			# HELP inference_scaler_trigger_capacity_limited 1 while the GPUs can hold fewer replicas than are asked for, and fewer are decided on.
			# TYPE inference_scaler_trigger_capacity_limited gauge
			inference_scaler_trigger_capacity_limited{namespace="asr",scaledobject="fleet",trigger="TRIGGER"} 1
			# HELP inference_scaler_trigger_capacity_replicas The replicas that the GPUs can hold. Absent while that is not known, or not looked at.
			# TYPE inference_scaler_trigger_capacity_replicas gauge
			inference_scaler_trigger_capacity_replicas{namespace="asr",scaledobject="fleet",trigger="TRIGGER"} 8
			# HELP inference_scaler_trigger_demand_replicas The replicas that are asked for before capacity is looked at.
			# TYPE inference_scaler_trigger_demand_replicas gauge
			inference_scaler_trigger_demand_replicas{namespace="asr",scaledobject="fleet",trigger="TRIGGER"} 20
		`
		require.NoError(t, testutil.GatherAndCompare(w.registry, strings.NewReader(strings.ReplaceAll(expected, "TRIGGER", e.Trigger)),
			"inference_scaler_trigger_capacity_limited", "inference_scaler_trigger_capacity_replicas", "inference_scaler_trigger_demand_replicas"))

		// No event is sent twice, and a change of load is no reason for an event.
		a.set(asr(110))
		w.pass(10 * time.Second)
		require.Equal(t, []string{"limited to 8 replicas: 1 nvidia.com/gpu per replica: 1 bound, and 7 more fit on 7 free devices"}, w.recorder.take("CapacityLimited"))

		// A foreign pod takes two GPUs: the event is sent at once, without a reading in between.
		w.cluster.hold(2)
		w.pass(150 * time.Millisecond)
		require.Equal(t, 30.0, w.value(leading))
		w.cluster.hold(1)
		w.pass(150 * time.Millisecond)
		require.Empty(t, w.recorder.take("CapacityLimited"), "an event a minute")
		w.pass(time.Minute)
		require.Equal(t, []string{"limited to 7 replicas: 1 nvidia.com/gpu per replica: 1 bound, and 6 more fit on 6 free devices"}, w.recorder.take("CapacityLimited"))

		w.cluster.provide(40)
		w.pass(150 * time.Millisecond)
		require.Equal(t, 110.0, w.value(leading))
		w.pass(time.Minute)
		require.Equal(t, []string{"no longer limited by capacity"}, w.recorder.take("CapacityAvailable"))
	})
}

// The capacity in an explanation is at most a second old, also when it changes no
// number and no pod is read.
func TestExplanationShowsTheNewestCapacity(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		w.cluster.provide(0)
		w.cluster.declare(leading)
		w.cluster.update(func(wl *cluster.Workload) { wl.Template, wl.MaxReplicas = oneGPU, 50 })
		w.pass(10 * time.Second)
		require.Equal(t, 0, *w.why().Capacity.Replicas)
		w.cluster.provide(5)
		w.pass(1100 * time.Millisecond)
		require.Equal(t, 5, *w.why().Capacity.Replicas)
	})
}

func TestWhenCapacityIsNoLimit(t *testing.T) {
	pools := func(left cluster.Resources) cluster.NodeAutoscaler {
		return cluster.NodeAutoscaler{Found: "Karpenter", Pools: []cluster.NodePool{{Name: "p", Left: left}}}
	}
	unmodelled := *oneGPU
	unmodelled.Unmodelled = []string{"resource claims (DRA)"}
	for name, tc := range map[string]struct {
		metadata map[string]string
		scaling  cluster.NodeAutoscaler
		template *cluster.PodTemplate
		unlisted error
		want     float64 // replicas, where 20 are asked for and 8 fit
		why      string  // text of the explanation
	}{
		"auto, no autoscaler":         {nil, cluster.NodeAutoscaler{}, oneGPU, nil, 8, "the cluster can hold 8"},
		"auto, nobody knows":          {nil, cluster.NodeAutoscaler{Unknown: "not allowed"}, oneGPU, nil, 20, "not a limit: whether nodes will be added is unknown: not allowed"},
		"auto, a cluster-autoscaler":  {nil, cluster.NodeAutoscaler{Found: "the cluster-autoscaler"}, oneGPU, nil, 20, "not a limit: nodes may be added (the cluster-autoscaler), and gpuHeadroom"},
		"auto, an exhausted one":      {nil, cluster.NodeAutoscaler{Found: "x", Exhausted: true}, oneGPU, nil, 8, "the cluster can hold 8"},
		"auto, with headroom":         {map[string]string{"gpuHeadroom": "4"}, cluster.NodeAutoscaler{Found: "x"}, oneGPU, nil, 12, "the cluster can hold 12"},
		"auto, a pool with a limit":   {nil, pools(cluster.Resources{gpu: 5}), oneGPU, nil, 13, "the cluster can hold 13"},
		"auto, a pool without":        {nil, pools(nil), oneGPU, nil, 20, ""},
		"auto, not all is counted":    {nil, cluster.NodeAutoscaler{}, &unmodelled, nil, 20, "not a limit: some limits are not counted: resource claims (DRA)"},
		"clamp, all the same":         {map[string]string{"gpuCapacity": "clamp"}, pools(nil), &unmodelled, nil, 8, "not counted: resource claims (DRA)"},
		"observe":                     {map[string]string{"gpuCapacity": "observe"}, cluster.NodeAutoscaler{}, oneGPU, nil, 20, "not a limit: gpuCapacity is observe"},
		"off":                         {map[string]string{"gpuCapacity": "off"}, cluster.NodeAutoscaler{}, oneGPU, nil, 20, ""},
		"no GPUs":                     {nil, cluster.NodeAutoscaler{}, &cluster.PodTemplate{}, nil, 20, ""},
		"no GPUs, and clamp":          {map[string]string{"gpuCapacity": "clamp"}, cluster.NodeAutoscaler{}, &cluster.PodTemplate{}, nil, 20, "its pods request no GPU; wanted: a request, or gpusPerReplica"},
		"GPUs that are not requested": {map[string]string{"gpusPerReplica": "2"}, cluster.NodeAutoscaler{}, &cluster.PodTemplate{}, nil, 4, "2 nvidia.com/gpu per replica"},
		"nodes are not listed":        {nil, cluster.NodeAutoscaler{}, oneGPU, errors.New("nodes: not allowed"), 20, "unknown, and so not a limit: nodes: not allowed"},
		"no template":                 {map[string]string{"gpuCapacity": "clamp"}, cluster.NodeAutoscaler{}, nil, nil, 20, "the pods of a Deployment have no template that is read"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, true, func(t *testing.T, w *world) {
				metadata := map[string]string{"engine": "lightning-asr", "hold": "0s"}
				for k, v := range tc.metadata {
					metadata[k] = v
				}
				w.cluster.provide(4, 3)
				a := w.gpuFleet(metadata)
				w.cluster.mu.Lock()
				w.cluster.scaling, w.cluster.unlisted = tc.scaling, tc.unlisted
				w.cluster.mu.Unlock()
				w.cluster.update(func(wl *cluster.Workload) { wl.Template = tc.template })
				a.set(asr(100))
				w.pass(3 * time.Second)
				require.Equal(t, tc.want, w.value(metadata)/5)
				steps := w.why().Steps
				require.Contains(t, steps[len(steps)-1].Why, tc.why)
			})
		})
	}
}

func TestTwoFleetsShare(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		w.cluster.provide(8)
		a := w.gpuFleet(leading)
		b := w.network.add("10.0.0.2:9090", asr(1))
		other := map[string]string{"engine": "lightning-asr", "hold": "0s", "target": "4"}
		w.cluster.updateOf("other", "llm", func(wl *cluster.Workload) {
			wl.Template, wl.Replicas, wl.MaxReplicas = oneGPU, 1, 50
			wl.Pods = []cluster.Pod{pod("b", "10.0.0.2", true)}
			wl.Pods[0].Node = "elsewhere"
		})
		w.cluster.declareOf("other", other)
		a.set(asr(100))
		w.pass(2 * time.Second)
		require.Equal(t, 9.0, w.value(leading)/5, "the other one wants nothing")

		b.set(asr(100))
		w.pass(1500 * time.Millisecond)
		require.Equal(t, 5.0, w.value(leading)/5, "half of what is free, and its own")
		require.Equal(t, "1 nvidia.com/gpu per replica: 1 bound, and 4 more fit on 8 free devices; 4 free devices are granted to other workloads", w.why().Capacity.Why)

		// It has been given them, and releases them; then the other one can have them all.
		a.set(asr(1))
		w.pass(1500 * time.Millisecond)
		b.set(asr(101))
		w.pass(1500 * time.Millisecond)
		var replicas float64
		for _, e := range w.evaluator.Explanations(func(_, name string) bool { return name == "other" }) {
			replicas = *e.Value / 4
		}
		require.Equal(t, 9.0, replicas)
	})
}

// Without Kubernetes no GPUs are counted: the keys for capacity are refused.
func TestCapacityNeedsKubernetes(t *testing.T) {
	inBubble(t, false, func(t *testing.T, w *world) {
		for key, value := range map[string]string{"gpuCapacity": "clamp", "gpuResource": "amd.com/gpu", "gpusPerReplica": "1", "gpuHeadroom": "8"} {
			_, err := w.client.IsActive(t.Context(), ref(map[string]string{"engine": "vllm", "endpoints": "pod:8000", key: value}))
			require.ErrorContains(t, err, key+`: "`+value+`"; this scaler runs without Kubernetes, and would not know the GPUs`)
		}
		_, err := w.client.IsActive(t.Context(), ref(map[string]string{"engine": "vllm", "endpoints": "pod:8000", "gpuCapacity": "off"}))
		require.NoError(t, err)
	})
}

// Replicas that were given and never come up keep the GPUs from others for a minute, and
// not for ever.
func TestUnboundReplicasExpire(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		w.cluster.provide(8)
		a := w.gpuFleet(leading)
		w.cluster.updateOf("stuck", "stuck", func(wl *cluster.Workload) {
			wl.Template, wl.Replicas, wl.MinReplicas, wl.MaxReplicas = oneGPU, 8, 8, 8
		})
		w.cluster.declareOf("stuck", map[string]string{"engine": "vllm", "hold": "0s"})
		a.set(asr(100))
		w.pass(10 * time.Second)
		require.Equal(t, 1.0, w.value(leading)/5, "they may come yet")
		w.pass(90 * time.Second)
		require.Equal(t, 9.0, w.value(leading)/5)
	})
}

// A trigger that is no longer declared is kept for a while, and claims nothing: the
// GPUs that it asked for are free for another fleet.
func TestAnOldTriggerClaimsNothing(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		w.cluster.provide(20)
		w.gpuFleet(leading).set(asr(100))
		w.network.add("10.0.2.1:9090", asr(100))
		w.cluster.declareOf("rival", leading)
		w.cluster.updateOf("rival", "rival", func(wl *cluster.Workload) {
			wl.Template, wl.Replicas, wl.MaxReplicas = oneGPU, 1, 50
			wl.Pods = []cluster.Pod{pod("r", "10.0.2.1", true)}
			wl.Pods[0].Node = "elsewhere"
		})
		limit := func() int {
			for _, e := range w.evaluator.Explanations(func(_, name string) bool { return name == "rival" }) {
				return *e.Capacity.Replicas
			}
			return -1
		}
		w.pass(2 * time.Second)
		require.Equal(t, 1+10, limit(), "half of the 20")
		w.cluster.declare(map[string]string{"engine": "lightning-asr", "hold": "0s", "target": "20"})
		w.pass(3 * time.Second)
		require.Equal(t, 3, w.open(), "the old trigger is kept")
		require.Equal(t, 1+16, limit(), "the fleet asks for 5 now, and has 1 elsewhere")
	})
}

func TestFollowerIgnoresReplicasThatCannotRun(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		w.cluster.provide(3)
		a := w.gpuFleet(leading)
		w.cluster.updateOf("api", "api", func(wl *cluster.Workload) { wl.Replicas = 1 })
		w.cluster.declareOf("api", following)
		a.set(asr(100))
		w.cluster.update(func(wl *cluster.Workload) { wl.Replicas, wl.MinReplicas = 9, 9 })
		w.pass(3 * time.Second)
		require.Equal(t, 2.0, w.follower(following), "for 4 of 9 that have room")
	})
}

// TestNothingIsPlannedWhileNothingChanges holds what deciding costs: a reading that
// asks for as much as before is no reason to share anew.
func TestNothingIsPlannedWhileNothingChanges(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		w.cluster.provide(8)
		a := w.gpuFleet(leading)
		w.pass(5 * time.Second)
		planned := w.cluster.inventories.Load()
		for i := range 10 {
			a.set(asr(4 - i%2))
			w.pass(time.Second)
		}
		require.Equal(t, planned, w.cluster.inventories.Load())
	})
}

// Two triggers of one fleet claim together, beside those of another fleet.
func TestTwoTriggersOfOneFleetClaimTogether(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		w.cluster.provide(8)
		small := map[string]string{"engine": "lightning-asr", "hold": "0s", "target": "1000"}
		big := map[string]string{"engine": "lightning-asr", "hold": "0s", "target": "5"}
		w.network.add("10.0.0.1:9090", asr(100))
		w.cluster.declare(small, big)
		w.cluster.update(func(wl *cluster.Workload) {
			wl.Template, wl.Replicas, wl.MaxReplicas = oneGPU, 1, 50
			wl.Pods = []cluster.Pod{pod("a", "10.0.0.1", true)}
			wl.Pods[0].Node = "elsewhere"
		})
		w.network.add("10.0.2.1:9090", asr(100))
		w.cluster.declareOf("rival", leading)
		w.cluster.updateOf("rival", "rival", func(wl *cluster.Workload) {
			wl.Template, wl.Replicas, wl.MaxReplicas = oneGPU, 1, 50
			wl.Pods = []cluster.Pod{pod("r", "10.0.2.1", true)}
			wl.Pods[0].Node = "elsewhere"
		})
		w.pass(time.Second)
		w.active(big)
		w.pass(5 * time.Second)
		require.Equal(t, 5.0, w.value(big)/5, "1 bound and half of what is free")
	})
}
