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

// nodeOf returns a node with that many GPUs, of which other pods hold some.
func nodeOf(name string, gpus, held int64) *cluster.Node {
	return &cluster.Node{
		NodeSpec: &cluster.NodeSpec{
			Name: name, Ready: true, Labels: map[string]string{corev1.LabelHostname: name},
			Allocatable: cluster.Resources{gpu: gpus, "cpu": 64_000, "pods": 110},
		},
		Held: cluster.Resources{gpu: held},
	}
}

// workloadOf returns a workload that claims replicas of so many GPUs each. It has one pod
// bound to each of the nodes.
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

func allocations(t *testing.T, inv *cluster.Inventory, workloads ...Workload) []Allocation {
	var p Planner
	plan := p.Plan(inv, workloads)
	var all []Allocation
	for _, w := range workloads {
		r, ok := plan.Allocation(w.Namespace, w.ScaledObject)
		require.True(t, ok)
		all = append(all, r)
	}
	return all
}

func replicas(all []Allocation) (out []int) {
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
		"a PreferNoSchedule taint": {1, func(_ *Workload, n []*cluster.Node) {
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
		"CPU runs out first":          {1, func(w *Workload, n []*cluster.Node) { w.Template.Requests["cpu"] = 30_000 }, 4},
		"pods run out first":          {1, func(_ *Workload, n []*cluster.Node) { n[0].Allocatable["pods"] = 3 }, 5},
		"more held than allocatable":  {1, func(_ *Workload, n []*cluster.Node) { n[0].Held[gpu] = 20 }, 2},
		"a resource that no node has": {1, func(w *Workload, _ []*cluster.Node) { w.Template.Requests["amd.com/gpu"] = 1 }, 0},
		"one pod per node by host port": {1, func(w *Workload, n []*cluster.Node) {
			w.Template.Ports = []cluster.HostPort{{Protocol: "TCP", Port: 80}}
		}, 2},
		"a host port in use": {1, func(w *Workload, n []*cluster.Node) {
			w.Template.Ports = []cluster.HostPort{{Protocol: "TCP", Port: 80}}
			n[0].Pods = []*cluster.BoundPod{{Ports: []cluster.HostPort{{IP: "1.2.3.4", Protocol: "TCP", Port: 80}}}}
		}, 1},
		"one pod per node by anti-affinity": {1, func(w *Workload, n []*cluster.Node) { w.Template.Repels = apart("w") }, 2},
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
			r := allocations(t, &cluster.Inventory{Nodes: nodes}, w)[0]
			require.Equal(t, tc.want, r.Replicas, r.String())
			w.Claim = 100
			require.Equal(t, tc.want, allocations(t, &cluster.Inventory{Nodes: nodes}, w)[0].Replicas, "a claim does not change the number")
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

func TestBoundPodsAlwaysCount(t *testing.T) {
	w := workloadOf("w", 1, 10, "a", "a", "gone")
	w.Pods = append(w.Pods,
		cluster.Pod{Name: "leaving", Phase: "Running", Node: "a", Terminating: true},
		cluster.Pod{Name: "done", Phase: "Succeeded", Node: "a"},
		cluster.Pod{Name: "pending", Phase: "Pending"})
	node := nodeOf("a", 4, 3)
	node.Ready = false
	r := allocations(t, &cluster.Inventory{Nodes: []*cluster.Node{node}}, w)[0]
	require.Equal(t, Allocation{Replicas: 3, Bound: 3, Device: w.Device}, r, "a node that is not ready offers no free devices")
}

// Terminating pods hold the devices that their replacements need. A rollout must neither
// shrink nor grow the workload.
func TestRolloutKeepsReplicas(t *testing.T) {
	terminate := func(w *Workload, pods ...int) {
		for _, i := range pods {
			w.Pods[i].Terminating = true
		}
	}
	for name, tc := range map[string]struct {
		change func(w *Workload, n *cluster.Node)
		want   int
	}{
		"one pod":             {func(w *Workload, _ *cluster.Node) { terminate(w, 3) }, 4},
		"all pods at once":    {func(w *Workload, _ *cluster.Node) { terminate(w, 0, 1, 2, 3) }, 4},
		"during a scale-down": {func(w *Workload, _ *cluster.Node) { terminate(w, 2, 3); w.Replicas = 2 }, 2},
		"during a scale-up":   {func(w *Workload, _ *cluster.Node) { terminate(w, 3); w.Replicas = 9 }, 4},
		"on a cordoned node":  {func(w *Workload, n *cluster.Node) { terminate(w, 3); n.Unschedulable = true }, 3},
	} {
		t.Run(name, func(t *testing.T) {
			w, n := workloadOf("w", 1, 9, "a", "a", "a", "a"), nodeOf("a", 4, 4)
			tc.change(&w, n)
			require.Equal(t, tc.want, allocations(t, &cluster.Inventory{Nodes: []*cluster.Node{n}}, w)[0].Replicas)
		})
	}
}

// The scheduler binds pods that exist before pods of replicas that are granted now. So
// replicas in spec.replicas precede others, whatever their workload has already.
func TestReplicasInSpecPrecedeNewOnes(t *testing.T) {
	resized := workloadOf("a", 1, 6, "full", "full", "full")
	resized.Replicas = 5
	inv := &cluster.Inventory{Nodes: []*cluster.Node{nodeOf("a", 3, 0), nodeOf("full", 8, 8)}}
	require.Equal(t, []int{5, 1}, replicas(allocations(t, inv, resized, workloadOf("b", 1, 3))))
}

func TestPodsWithoutARequest(t *testing.T) {
	w := workloadOf("asr", 1, 10, "a", "a")
	delete(w.Template.Requests, gpu)
	w.Device = DeviceOf(w.Template, "", 2)
	require.Equal(t, Device{gpu, 2, false}, w.Device)
	inv := &cluster.Inventory{Nodes: []*cluster.Node{nodeOf("a", 8, 1)}}
	require.Equal(t, []int{3, 2}, replicas(allocations(t, inv, w, workloadOf("llm", 1, 0, "a"))[:2]), "a pod without a request holds what its trigger declares")

	inv.Nodes[0].Allocatable[gpu] = 0
	require.Equal(t, "no node advertises nvidia.com/gpu", allocations(t, inv, w)[0].Unknown)
}

func TestDeviceOf(t *testing.T) {
	of := func(requests cluster.Resources) *cluster.PodTemplate {
		return &cluster.PodTemplate{Requests: requests}
	}
	require.Equal(t, Device{gpu, 2, true}, DeviceOf(of(cluster.Resources{gpu: 2, "cpu": 1}), "", 8), "a request takes precedence")
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
	r := allocations(t, inv, w)[0]
	require.Equal(t, 4, r.Replicas, "one is bound, the quota counts one pending pod, and allows two more")
	require.Equal(t, "2 nvidia.com/gpu per replica: 1 bound, and ResourceQuota gpus allows 3 more", r.String())
	other := workloadOf("v", 2, 10)
	require.Equal(t, []int{2, 2}, replicas(allocations(t, inv, w, other)), "workloads share the rest of a quota")
	quota.Unmodelled, quota.Requests[gpu] = "has scopes", 0
	r = allocations(t, inv, w)[0]
	require.Equal(t, "ResourceQuota gpus (has scopes)", r.Unknown)
	require.Equal(t, 50, r.Replicas, "a quota with scopes is not a limit")
	inv.Quotas, inv.NoQuotas = nil, map[string]string{"ns": "not allowed"}
	require.Equal(t, "ResourceQuotas (not allowed)", allocations(t, inv, w)[0].Unknown)
	inv.NoQuotas = map[string]string{"": "not allowed"}
	require.Equal(t, "ResourceQuotas (not allowed)", allocations(t, inv, w)[0].Unknown)
	inv.NoQuotas = map[string]string{"other": "not allowed"}
	require.Empty(t, allocations(t, inv, w)[0].Unknown)
}

// A trigger declares the devices of pods that request none. The scheduler does not know
// them, so workloads of other namespaces must not subtract them.
func TestUnrequestedDevicesCountOnlyInTheirNamespace(t *testing.T) {
	unrequested := workloadOf("unrequested", 1024, 100, "a")
	unrequested.Namespace = "elsewhere"
	unrequested.Template = &cluster.PodTemplate{Priority: 1000, Requests: cluster.Resources{"cpu": 1, "pods": 1}}
	unrequested.Device.Requested = false
	inv := &cluster.Inventory{Nodes: []*cluster.Node{nodeOf("a", 8, 1)}}
	require.Equal(t, 8, allocations(t, inv, workloadOf("v", 1, 8, "a"), unrequested)[0].Replicas)
	unrequested.Device.PerReplica = 1
	require.Equal(t, []int{8, 7}, replicas(allocations(t, inv, workloadOf("v", 1, 8, "a"), unrequested)), "nor are granted ones subtracted")
}

// Pods differ from their template: admission adds tolerations for taints named after a
// requested resource, and a webhook may change the node selector.
func TestAdmissionChangesPods(t *testing.T) {
	n := nodeOf("a", 8, 0)
	n.Taints = []corev1.Taint{{Key: gpu, Effect: corev1.TaintEffectNoSchedule}}
	inv := &cluster.Inventory{Nodes: []*cluster.Node{n}}
	require.Equal(t, 8, allocations(t, inv, workloadOf("w", 1, 9))[0].Replicas)
	mismatched := workloadOf("w", 1, 9, "a")
	mismatched.Template.NodeSelector = map[string]string{"pool": "cpu"}
	require.Equal(t, "pods that run on nodes which the pod template does not select", allocations(t, inv, mismatched)[0].Unknown)
}

func TestPreemptionIsNotCounted(t *testing.T) {
	n := nodeOf("a", 8, 8)
	n.Pods = []*cluster.BoundPod{{Namespace: "batch", Priority: -10, Requests: cluster.Resources{gpu: 4}}}
	inv := &cluster.Inventory{Nodes: []*cluster.Node{n}}
	w := workloadOf("w", 1, 9)
	require.Equal(t, "preemption of pods of lower priority on 1 nodes", allocations(t, inv, w)[0].Unknown)
	w.Template.PreemptsNever = true
	require.Empty(t, allocations(t, inv, w)[0].Unknown)
	w.Template.PreemptsNever, w.Template.Priority = false, -10
	require.Empty(t, allocations(t, inv, w)[0].Unknown)
}

func TestPools(t *testing.T) {
	w := workloadOf("w", 4, 0)
	w.Pools = true
	pool := cluster.NodePool{Name: "p", Left: cluster.Resources{gpu: 16}, Labels: map[string]string{"team": "a"}, Allowed: map[string][]string{"zone": {"x", "y"}}}
	inv := &cluster.Inventory{Nodes: []*cluster.Node{nodeOf("a", 4, 0)}, Autoscaler: cluster.NodeAutoscaler{Found: "Karpenter", Pools: []cluster.NodePool{pool}}}
	require.Equal(t, 5, allocations(t, inv, w)[0].Replicas)
	v := workloadOf("v", 4, 3)
	v.Pools = true
	w.Claim = 10
	require.Equal(t, []int{3, 2}, replicas(allocations(t, inv, v, w)), "workloads share future nodes too")
	w.Template.NodeSelector = map[string]string{"team": "b"}
	require.Equal(t, 0, allocations(t, inv, w)[0].Replicas)
	w.Template.NodeSelector = map[string]string{"zone": "z"}
	require.Equal(t, 0, allocations(t, inv, w)[0].Replicas)
	w.Template.NodeSelector, w.Pools = nil, false
	require.Equal(t, 1, allocations(t, inv, w)[0].Replicas, "without pools only existing nodes count")
}

func TestShare(t *testing.T) {
	inv := func(free int64) *cluster.Inventory {
		return &cluster.Inventory{Nodes: []*cluster.Node{nodeOf("a", free, 0), nodeOf("full", 8, 8)}}
	}
	urgent := workloadOf("urgent", 1, 6)
	urgent.Template.Priority = 10
	resized := workloadOf("b", 1, 1)
	resized.Replicas = 1
	for name, tc := range map[string]struct {
		free      int64
		workloads []Workload
		want      []int
	}{
		"halves":                           {8, []Workload{workloadOf("a", 1, 10), workloadOf("b", 1, 10)}, []int{4, 4}},
		"one claims less than half":        {8, []Workload{workloadOf("a", 1, 2), workloadOf("b", 1, 10)}, []int{2, 6}},
		"unclaimed devices count for both": {8, []Workload{workloadOf("a", 1, 2), workloadOf("b", 1, 3)}, []int{5, 6}},
		"fair in GPUs, not in replicas":    {8, []Workload{workloadOf("a", 1, 10), workloadOf("b", 4, 10)}, []int{4, 1}},
		"priority first":                   {8, []Workload{workloadOf("a", 1, 10), urgent}, []int{2, 6}},
		"bound pods keep their GPUs":       {2, []Workload{workloadOf("a", 1, 10, "full", "full", "full", "full", "full", "full"), workloadOf("b", 1, 10)}, []int{6, 2}},
		"a tie, by name":                   {1, []Workload{workloadOf("a", 1, 1), workloadOf("b", 1, 1)}, []int{1, 0}},
		"a tie, by spec.replicas":          {1, []Workload{workloadOf("a", 1, 1), resized}, []int{0, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tc.want, replicas(allocations(t, inv(tc.free), tc.workloads...)))
			tc.workloads[0], tc.workloads[1] = tc.workloads[1], tc.workloads[0]
			tc.want[0], tc.want[1] = tc.want[1], tc.want[0]
			require.Equal(t, tc.want, replicas(allocations(t, inv(tc.free), tc.workloads...)), "in any order")
		})
	}
}

func TestAllocationString(t *testing.T) {
	inv := &cluster.Inventory{Nodes: []*cluster.Node{nodeOf("a", 8, 2)}}
	all := allocations(t, inv, workloadOf("a", 2, 9, "a"), workloadOf("b", 1, 2))
	require.Equal(t, "2 nvidia.com/gpu per replica: 1 bound, and 2 more fit on 6 free devices; 2 free devices are granted to other workloads", all[0].String())
	require.Equal(t, "1 nvidia.com/gpu per replica: 0 bound, and 2 more fit on 6 free devices; 4 free devices are granted to other workloads", all[1].String())
	inv.Nodes[0].Held[gpu] = 8
	require.Equal(t, "2 nvidia.com/gpu per replica: 1 bound, and no free devices", allocations(t, inv, workloadOf("a", 2, 9, "a"))[0].String())
}

func TestPlannerCache(t *testing.T) {
	var p Planner
	w := workloadOf("w", 1, 4)
	nodes := []*cluster.Node{nodeOf("a", 2, 0), nodeOf("c", 2, 0)}
	replicas := func(nodes ...*cluster.Node) int {
		a, _ := p.Plan(&cluster.Inventory{Nodes: nodes}, []Workload{w}).Allocation("ns", "w")
		return a.Replicas
	}
	require.Equal(t, 4, replicas(nodes...))
	require.Equal(t, 7, replicas(nodes[0], nodeOf("b", 3, 0), nodes[1]), "a node was added")
	require.Equal(t, 2, replicas(nodes[1]), "nodes were removed")
	cordoned := nodeOf("c", 2, 0)
	cordoned.Unschedulable = true
	require.Equal(t, 0, replicas(cordoned), "a node has changed")
	require.Equal(t, 4, replicas(nodes...))
	template := *w.Template
	template.NodeSelector = map[string]string{corev1.LabelHostname: "a"}
	changed := *w.Workload
	changed.Template = &template
	w.Workload = &changed
	require.Equal(t, 2, replicas(nodes...), "the template has changed")
	_, ok := p.Plan(&cluster.Inventory{}, nil).Allocation("ns", "w")
	require.False(t, ok)
	require.Empty(t, p.nodes)
}
