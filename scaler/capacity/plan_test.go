package capacity

import (
	"fmt"
	"testing"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const gpu = "nvidia.com/gpu"

// nodeOf is a node with that many GPUs, and what others hold of them.
func nodeOf(name string, gpus, held int64) *cluster.Node {
	return &cluster.Node{
		NodeSpec: &cluster.NodeSpec{
			Name: name, Ready: true, Labels: map[string]string{corev1.LabelHostname: name},
			Allocatable: cluster.Resources{gpu: gpus, "cpu": 64_000, "pods": 110},
		},
		Held: cluster.Resources{gpu: held},
	}
}

// workloadOf wants that many replicas of so many GPUs each; its pods are bound to those nodes.
func workloadOf(name string, gpus int64, claim int, nodes ...string) Workload {
	w := Workload{
		Workload: &cluster.Workload{
			Namespace: "ns", ScaledObject: name, Replicas: len(nodes),
			Template: &cluster.PodTemplate{Labels: map[string]string{"app": name}, Requests: cluster.Resources{gpu: gpus, "cpu": 1000, "pods": 1}},
		},
		Device: Device{gpu, gpus, true},
		Claim:  claim,
	}
	for i, n := range nodes {
		w.Pods = append(w.Pods, cluster.Pod{Name: fmt.Sprint(name, i), Phase: "Running", Node: n})
	}
	return w
}

func rooms(t *testing.T, inv *cluster.Inventory, workloads ...Workload) []Room {
	var p Planner
	plan := p.Plan(inv, workloads)
	var all []Room
	for _, w := range workloads {
		r, ok := plan.Room(w.Namespace, w.ScaledObject)
		require.True(t, ok)
		all = append(all, r)
	}
	return all
}

func replicas(all []Room) (out []int) {
	for _, r := range all {
		out = append(out, r.Replicas)
	}
	return out
}

func TestFit(t *testing.T) {
	taint := corev1.Taint{Key: "dedicated", Value: "x", Effect: corev1.TaintEffectNoSchedule}
	type change func(w *Workload, nodes []*cluster.Node)
	for name, tc := range map[string]struct {
		gpus   int64
		change change
		want   int
	}{
		"one GPU each":                  {1, nil, 10},
		"whole replicas on whole nodes": {4, nil, 2},
		"more than a node has":          {9, nil, 0},
		"a node that is not ready":      {1, func(_ *Workload, n []*cluster.Node) { n[0].Ready = false }, 2},
		"a cordoned node":               {1, func(_ *Workload, n []*cluster.Node) { n[0].Unschedulable = true }, 2},
		"a tainted node":                {1, func(_ *Workload, n []*cluster.Node) { n[0].Taints = []corev1.Taint{taint} }, 2},
		"a preference is no obstacle": {1, func(_ *Workload, n []*cluster.Node) {
			n[0].Taints = []corev1.Taint{{Key: "x", Effect: corev1.TaintEffectPreferNoSchedule}}
		}, 10},
		"a tolerated taint": {1, func(w *Workload, n []*cluster.Node) {
			n[0].Taints = []corev1.Taint{taint}
			w.Template.Tolerations = []corev1.Toleration{{Key: "dedicated", Operator: corev1.TolerationOpExists}}
		}, 10},
		"a node selector": {1, func(w *Workload, n []*cluster.Node) {
			w.Template.NodeSelector = map[string]string{corev1.LabelHostname: "b"}
		}, 2},
		"a node affinity": {1, func(w *Workload, n []*cluster.Node) {
			w.Template.NodeAffinity = affinity(corev1.NodeSelectorOpNotIn, "b")
		}, 8},
		"CPU runs out first":        {1, func(w *Workload, n []*cluster.Node) { w.Template.Requests["cpu"] = 30_000 }, 4},
		"pods run out first":        {1, func(_ *Workload, n []*cluster.Node) { n[0].Allocatable["pods"] = 3 }, 5},
		"more held than there is":   {1, func(_ *Workload, n []*cluster.Node) { n[0].Held[gpu] = 20 }, 2},
		"no such resource anywhere": {1, func(w *Workload, _ []*cluster.Node) { w.Template.Requests["amd.com/gpu"] = 1 }, 0},
		"one pod a node, by its ports": {1, func(w *Workload, n []*cluster.Node) {
			w.Template.Ports = []cluster.HostPort{{Protocol: "TCP", Port: 80}}
		}, 2},
		"a port that another has": {1, func(w *Workload, n []*cluster.Node) {
			w.Template.Ports = []cluster.HostPort{{Protocol: "TCP", Port: 80}}
			n[0].Pods = []*cluster.BoundPod{{Ports: []cluster.HostPort{{IP: "1.2.3.4", Protocol: "TCP", Port: 80}}}}
		}, 1},
		"one pod a node, by anti-affinity": {1, func(w *Workload, n []*cluster.Node) { w.Template.Repels = apart("w") }, 2},
		"a pod that it avoids": {1, func(w *Workload, n []*cluster.Node) {
			w.Template.Repels = apart("x")
			n[0].Pods = []*cluster.BoundPod{{Namespace: "ns", Labels: map[string]string{"app": "x"}}}
		}, 2},
		"a pod of another namespace": {1, func(w *Workload, n []*cluster.Node) {
			w.Template.Repels = apart("x")
			n[0].Pods = []*cluster.BoundPod{{Namespace: "other", Labels: map[string]string{"app": "x"}}}
		}, 10},
		"a pod that avoids it": {1, func(w *Workload, n []*cluster.Node) {
			n[0].Pods = []*cluster.BoundPod{{Namespace: "ns", Repels: apart("w")}}
		}, 2},
		"headroom": {4, func(w *Workload, n []*cluster.Node) { w.Headroom = 9 }, 4},
	} {
		t.Run(name, func(t *testing.T) {
			w := workloadOf("w", tc.gpus, 0)
			nodes := []*cluster.Node{nodeOf("a", 8, 0), nodeOf("b", 4, 2)}
			if tc.change != nil {
				tc.change(&w, nodes)
			}
			r := rooms(t, &cluster.Inventory{Nodes: nodes}, w)[0]
			require.Equal(t, tc.want, r.Replicas, r.String())
			w.Claim = 100
			require.Equal(t, tc.want, rooms(t, &cluster.Inventory{Nodes: nodes}, w)[0].Replicas, "claimed, it is the same")
		})
	}
}

func affinity(op corev1.NodeSelectorOperator, host string) *corev1.NodeSelector {
	return &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
		MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: op, Values: []string{host}}},
	}}}
}

func apart(app string) []corev1.PodAffinityTerm {
	return []corev1.PodAffinityTerm{{TopologyKey: corev1.LabelHostname, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}}}
}

func TestWhatIsBoundFits(t *testing.T) {
	w := workloadOf("w", 1, 10, "a", "a", "gone")
	w.Pods = append(w.Pods,
		cluster.Pod{Name: "leaving", Phase: "Running", Node: "a", Terminating: true},
		cluster.Pod{Name: "done", Phase: "Succeeded", Node: "a"},
		cluster.Pod{Name: "pending", Phase: "Pending"})
	node := nodeOf("a", 4, 3)
	node.Ready = false
	r := rooms(t, &cluster.Inventory{Nodes: []*cluster.Node{node}}, w)[0]
	require.Equal(t, Room{Replicas: 3, Bound: 3, Device: w.Device}, r, "a node that is not ready gives nothing back")
}

// While a workload's pods are replaced, those that leave hold what those that come need:
// it is as large as it was, and no larger.
func TestARolloutTakesNothingAway(t *testing.T) {
	leaving := func(w *Workload, pods ...int) {
		for _, i := range pods {
			w.Pods[i].Terminating = true
		}
	}
	for name, tc := range map[string]struct {
		change func(w *Workload, n *cluster.Node)
		want   int
	}{
		"one after the other":             {func(w *Workload, _ *cluster.Node) { leaving(w, 3) }, 4},
		"all at once":                     {func(w *Workload, _ *cluster.Node) { leaving(w, 0, 1, 2, 3) }, 4},
		"of a fleet that shrinks":         {func(w *Workload, _ *cluster.Node) { leaving(w, 2, 3); w.Replicas = 2 }, 2},
		"that is to grow":                 {func(w *Workload, _ *cluster.Node) { leaving(w, 3); w.Replicas = 9 }, 4},
		"on a node that is to be emptied": {func(w *Workload, n *cluster.Node) { leaving(w, 3); n.Unschedulable = true }, 3},
	} {
		t.Run(name, func(t *testing.T) {
			w, n := workloadOf("w", 1, 9, "a", "a", "a", "a"), nodeOf("a", 4, 4)
			tc.change(&w, n)
			require.Equal(t, tc.want, rooms(t, &cluster.Inventory{Nodes: []*cluster.Node{n}}, w)[0].Replicas)
		})
	}
}

// Replicas that were given and whose pods wait will be bound before any new ones are
// made: they go first, however much their workload has.
func TestWhatWasGivenIsBoundFirst(t *testing.T) {
	given := workloadOf("a", 1, 6, "full", "full", "full")
	given.Replicas = 5
	inv := &cluster.Inventory{Nodes: []*cluster.Node{nodeOf("a", 3, 0), nodeOf("full", 8, 8)}}
	require.Equal(t, []int{5, 1}, replicas(rooms(t, inv, given, workloadOf("b", 1, 3))))
}

func TestPodsWithoutARequest(t *testing.T) {
	w := workloadOf("asr", 1, 10, "a", "a")
	delete(w.Template.Requests, gpu)
	w.Device = DeviceOf(w.Template, "", 2)
	require.Equal(t, Device{gpu, 2, false}, w.Device)
	inv := &cluster.Inventory{Nodes: []*cluster.Node{nodeOf("a", 8, 1)}}
	require.Equal(t, []int{3, 2}, replicas(rooms(t, inv, w, workloadOf("llm", 1, 0, "a"))[:2]), "a silent pod holds what its trigger says")

	inv.Nodes[0].Allocatable[gpu] = 0
	require.Equal(t, "nvidia.com/gpu, which no node advertises", rooms(t, inv, w)[0].Unknown)
}

func TestDeviceOf(t *testing.T) {
	of := func(requests cluster.Resources) *cluster.PodTemplate {
		return &cluster.PodTemplate{Requests: requests}
	}
	require.Equal(t, Device{gpu, 2, true}, DeviceOf(of(cluster.Resources{gpu: 2, "cpu": 1}), "", 8), "a request goes first")
	require.Equal(t, Device{"nvidia.com/mig-1g.5gb", 1, true}, DeviceOf(of(cluster.Resources{"nvidia.com/mig-1g.5gb": 1}), "", 0))
	require.Equal(t, Device{"amd.com/gpu", 4, true}, DeviceOf(of(cluster.Resources{"amd.com/gpu": 4}), "", 0))
	require.Equal(t, Device{"habana.ai/gaudi", 8, true}, DeviceOf(of(cluster.Resources{"habana.ai/gaudi": 8}), "habana.ai/gaudi", 0))
	require.Equal(t, Device{"habana.ai/gaudi", 3, false}, DeviceOf(of(cluster.Resources{gpu: 8}), "habana.ai/gaudi", 3))
	require.Equal(t, Device{gpu, 0, false}, DeviceOf(of(nil), "", 0), "none")
}

func TestQuota(t *testing.T) {
	w := workloadOf("w", 2, 10, "a")
	w.Pods = append(w.Pods, cluster.Pod{Name: "pending", Phase: "Pending"})
	quota := &cluster.Quota{
		Namespace: "ns", Name: "gpus",
		Requests: cluster.Resources{gpu: 9}, Requested: cluster.Resources{gpu: 4},
	}
	inv := &cluster.Inventory{Nodes: []*cluster.Node{nodeOf("a", 100, 2)}, Quotas: []*cluster.Quota{quota}}
	r := rooms(t, inv, w)[0]
	require.Equal(t, 4, r.Replicas, "one is bound, one is paid for, and the quota leaves two")
	require.Equal(t, "2 nvidia.com/gpu a replica: 1 bound, and ResourceQuota gpus leaves 3 more", r.String())
	other := workloadOf("v", 2, 10)
	require.Equal(t, []int{2, 2}, replicas(rooms(t, inv, w, other)), "and they share what it leaves")
	quota.Unmodelled, quota.Requests[gpu] = "has scopes", 0
	r = rooms(t, inv, w)[0]
	require.Equal(t, "ResourceQuota gpus (has scopes)", r.Unknown)
	require.Equal(t, 50, r.Replicas, "a quota that may count other pods is no limit")
	inv.Quotas, inv.NoQuotas = nil, map[string]string{"ns": "not allowed"}
	require.Equal(t, "ResourceQuotas (not allowed)", rooms(t, inv, w)[0].Unknown)
	inv.NoQuotas = map[string]string{"": "not allowed"}
	require.Equal(t, "ResourceQuotas (not allowed)", rooms(t, inv, w)[0].Unknown)
	inv.NoQuotas = map[string]string{"other": "not allowed"}
	require.Empty(t, rooms(t, inv, w)[0].Unknown)
}

// What pods hold without a request is their trigger's word, which nobody in another
// namespace takes, nor does the scheduler.
func TestSilentPodsKeepNothingFromOtherNamespaces(t *testing.T) {
	silent := workloadOf("silent", 1024, 100, "a")
	silent.Namespace = "elsewhere"
	silent.Template = &cluster.PodTemplate{Priority: 1000, Requests: cluster.Resources{"cpu": 1, "pods": 1}}
	silent.Device.Requested = false
	inv := &cluster.Inventory{Nodes: []*cluster.Node{nodeOf("a", 8, 1)}}
	require.Equal(t, 8, rooms(t, inv, workloadOf("v", 1, 8, "a"), silent)[0].Replicas)
	silent.Device.PerReplica = 1
	require.Equal(t, []int{8, 7}, replicas(rooms(t, inv, workloadOf("v", 1, 8, "a"), silent)), "nor does a claim of theirs")
}

// A template is not a pod: admission tolerates taints that are named after a resource that
// is requested, and a webhook may select other nodes.
func TestWhatTemplatesLack(t *testing.T) {
	n := nodeOf("a", 8, 0)
	n.Taints = []corev1.Taint{{Key: gpu, Effect: corev1.TaintEffectNoSchedule}}
	inv := &cluster.Inventory{Nodes: []*cluster.Node{n}}
	require.Equal(t, 8, rooms(t, inv, workloadOf("w", 1, 9))[0].Replicas)
	odd := workloadOf("w", 1, 9, "a")
	odd.Template.NodeSelector = map[string]string{"pool": "cpu"}
	require.Equal(t, "what has its pods run on nodes that its template does not select", rooms(t, inv, odd)[0].Unknown)
}

func TestPreemptionIsNotCounted(t *testing.T) {
	n := nodeOf("a", 8, 8)
	n.Pods = []*cluster.BoundPod{{Namespace: "batch", Priority: -10, Requests: cluster.Resources{gpu: 4}}}
	inv := &cluster.Inventory{Nodes: []*cluster.Node{n}}
	w := workloadOf("w", 1, 9)
	require.Equal(t, "preemption of pods of lower priority, on 1 nodes", rooms(t, inv, w)[0].Unknown)
	w.Template.PreemptsNever = true
	require.Empty(t, rooms(t, inv, w)[0].Unknown)
	w.Template.PreemptsNever, w.Template.Priority = false, -10
	require.Empty(t, rooms(t, inv, w)[0].Unknown)
}

func TestPools(t *testing.T) {
	w := workloadOf("w", 4, 0)
	w.Pools = true
	pool := cluster.NodePool{Name: "p", Left: cluster.Resources{gpu: 16}, Labels: map[string]string{"team": "a"}, Allowed: map[string][]string{"zone": {"x", "y"}}}
	inv := &cluster.Inventory{Nodes: []*cluster.Node{nodeOf("a", 4, 0)}, Autoscaler: cluster.NodeAutoscaler{Found: "Karpenter", Pools: []cluster.NodePool{pool}}}
	require.Equal(t, 5, rooms(t, inv, w)[0].Replicas)
	v := workloadOf("v", 4, 3)
	v.Pools = true
	w.Claim = 10
	require.Equal(t, []int{3, 2}, replicas(rooms(t, inv, v, w)), "they share what is to come as well")
	w.Template.NodeSelector = map[string]string{"team": "b"}
	require.Equal(t, 0, rooms(t, inv, w)[0].Replicas)
	w.Template.NodeSelector = map[string]string{"zone": "z"}
	require.Equal(t, 0, rooms(t, inv, w)[0].Replicas)
	w.Template.NodeSelector, w.Pools = nil, false
	require.Equal(t, 1, rooms(t, inv, w)[0].Replicas, "clamped to what is there")
}

func TestShare(t *testing.T) {
	inv := func(free int64) *cluster.Inventory {
		return &cluster.Inventory{Nodes: []*cluster.Node{nodeOf("a", free, 0), nodeOf("full", 8, 8)}}
	}
	urgent := workloadOf("urgent", 1, 6)
	urgent.Template.Priority = 10
	asked := workloadOf("b", 1, 1)
	asked.Replicas = 1
	for name, tc := range map[string]struct {
		free      int64
		workloads []Workload
		want      []int
	}{
		"halves":                         {8, []Workload{workloadOf("a", 1, 10), workloadOf("b", 1, 10)}, []int{4, 4}},
		"what one does not want":         {8, []Workload{workloadOf("a", 1, 2), workloadOf("b", 1, 10)}, []int{2, 6}},
		"room to spare is everybody's":   {8, []Workload{workloadOf("a", 1, 2), workloadOf("b", 1, 3)}, []int{5, 6}},
		"in GPUs, not in replicas":       {8, []Workload{workloadOf("a", 1, 10), workloadOf("b", 4, 10)}, []int{4, 1}},
		"by priority first":              {8, []Workload{workloadOf("a", 1, 10), urgent}, []int{2, 6}},
		"nobody loses what is bound":     {2, []Workload{workloadOf("a", 1, 10, "full", "full", "full", "full", "full", "full"), workloadOf("b", 1, 10)}, []int{6, 2}},
		"the last one by name":           {1, []Workload{workloadOf("a", 1, 1), workloadOf("b", 1, 1)}, []int{1, 0}},
		"or to whom it was given before": {1, []Workload{workloadOf("a", 1, 1), asked}, []int{0, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tc.want, replicas(rooms(t, inv(tc.free), tc.workloads...)))
			tc.workloads[0], tc.workloads[1] = tc.workloads[1], tc.workloads[0]
			tc.want[0], tc.want[1] = tc.want[1], tc.want[0]
			require.Equal(t, tc.want, replicas(rooms(t, inv(tc.free), tc.workloads...)), "in whatever order they are told of")
		})
	}
}

func TestRoomSaysWhatItIsMadeOf(t *testing.T) {
	inv := &cluster.Inventory{Nodes: []*cluster.Node{nodeOf("a", 8, 2)}}
	all := rooms(t, inv, workloadOf("a", 2, 9, "a"), workloadOf("b", 1, 2))
	require.Equal(t, "2 nvidia.com/gpu a replica: 1 bound, and 2 more fit on 6 free, of which others have a share of 2", all[0].String())
	require.Equal(t, "1 nvidia.com/gpu a replica: 0 bound, and 2 more fit on 6 free, of which others have a share of 4", all[1].String())
	inv.Nodes[0].Held[gpu] = 8
	require.Equal(t, "2 nvidia.com/gpu a replica: 1 bound, and nothing free", rooms(t, inv, workloadOf("a", 2, 9, "a"))[0].String())
}

func TestPlannerForgetsAndRemembers(t *testing.T) {
	var p Planner
	w := workloadOf("w", 1, 4)
	nodes := []*cluster.Node{nodeOf("a", 2, 0), nodeOf("c", 2, 0)}
	room := func(nodes ...*cluster.Node) int {
		r, _ := p.Plan(&cluster.Inventory{Nodes: nodes}, []Workload{w}).Room("ns", "w")
		return r.Replicas
	}
	require.Equal(t, 4, room(nodes...))
	require.Equal(t, 7, room(nodes[0], nodeOf("b", 3, 0), nodes[1]), "a node has come in between")
	require.Equal(t, 2, room(nodes[1]), "others have gone")
	cordoned := nodeOf("c", 2, 0)
	cordoned.Unschedulable = true
	require.Equal(t, 0, room(cordoned), "one has changed")
	require.Equal(t, 4, room(nodes...))
	template := *w.Template
	template.NodeSelector = map[string]string{corev1.LabelHostname: "a"}
	changed := *w.Workload
	changed.Template = &template
	w.Workload = &changed
	require.Equal(t, 2, room(nodes...), "the template has changed")
	_, ok := p.Plan(&cluster.Inventory{}, nil).Room("ns", "w")
	require.False(t, ok)
	require.Empty(t, p.nodes)
}
