package broker

import (
	"fmt"
	"testing"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	"github.com/inference-scaler/inference-scaler/scaler/decision"
	"github.com/inference-scaler/inference-scaler/scaler/trigger"

	corev1 "k8s.io/api/core/v1"
)

const gpu = "nvidia.com/gpu"

// limitPerChange is what a change of a node or a pod may cost, in milliseconds.
const limitPerChange = 50

// crowded is a Broker of 500 triggers over 1000 nodes with 8 GPUs each: 8000 pods
// hold all of them. Every trigger asks for more, and each 50th node has come free.
func crowded() (*Broker, *cluster.Inventory) {
	const triggers, nodes, perNode = 500, 1000, 8
	inv := &cluster.Inventory{}
	pods := make([][]cluster.Pod, triggers)
	for i := range nodes {
		n := &cluster.Node{
			NodeSpec: &cluster.NodeSpec{
				Name: fmt.Sprintf("node-%04d", i), Ready: true, Labels: map[string]string{"pool": "gpu"},
				Taints:      []corev1.Taint{{Key: gpu, Effect: corev1.TaintEffectNoSchedule}},
				Allocatable: cluster.Resources{gpu: perNode, "cpu": 96_000, "memory": 1 << 40, "pods": 110},
			},
			Held: cluster.Resources{},
		}
		for j := range perNode {
			if i%50 == 0 {
				break
			}
			of := (i*perNode + j) % triggers
			p := &cluster.BoundPod{Namespace: "asr", Name: fmt.Sprintf("pod-%d-%d", i, j), Node: n.Name, Requests: cluster.Resources{gpu: 1, "cpu": 4000, "memory": 8 << 30, "pods": 1}}
			n.Pods = append(n.Pods, p)
			for name, amount := range p.Requests {
				n.Held[name] += amount
			}
			pods[of] = append(pods[of], cluster.Pod{Name: p.Name, Phase: "Running", Ready: true, Node: n.Name})
		}
		inv.Nodes = append(inv.Nodes, n)
	}
	for i := range triggers {
		w := &cluster.Workload{
			Namespace: "asr", ScaledObject: fmt.Sprintf("so-%03d", i), Kind: "Deployment", Name: fmt.Sprintf("so-%03d", i),
			Replicas: len(pods[i]), MaxReplicas: 100, Pods: pods[i],
			Template: &cluster.PodTemplate{
				Requests: requests, NodeSelector: map[string]string{"pool": "gpu"},
				Tolerations: []corev1.Toleration{{Key: gpu, Operator: corev1.TolerationOpExists}},
			},
		}
		inv.Workloads = append(inv.Workloads, w)
	}
	br := New(func() (*cluster.Inventory, error) { return inv, nil }, false)
	for _, w := range inv.Workloads {
		c := br.Open(cluster.NamespacedName{Namespace: w.Namespace, Name: w.ScaledObject}, trigger.Capacity{Mode: trigger.CapacityAuto}, func(time.Duration) {})
		c.Set(&decision.Decision{DemandReplicas: 100, Input: decision.Input{Capacity: c.Capacity(w)}}, true)
	}
	br.Replan()
	return br, inv
}

var requests = cluster.Resources{gpu: 1, "cpu": 4000, "memory": 8 << 30, "pods": 1}

// BenchmarkCapacityChange is the cost of a pod that came or went: a new plan, and the search
// for the answers that it changes.
func BenchmarkCapacityChange(b *testing.B) {
	br, inv := crowded()
	at := 0
	for b.Loop() {
		at = (at + 7) % len(inv.Nodes)
		n := *inv.Nodes[at] // as the cluster makes it anew when a pod of it has changed
		n.Held = cluster.Resources{gpu: n.Held[gpu] ^ 1, "cpu": n.Held["cpu"], "memory": n.Held["memory"], "pods": n.Held["pods"]}
		inv.Nodes[at] = &n
		br.Replan()
	}
	printBudget(b, "per change of a pod", limitPerChange)
}

// BenchmarkCapacityNode is that of a changed node, whose fit for all templates is computed anew.
func BenchmarkCapacityNode(b *testing.B) {
	br, inv := crowded()
	at := 0
	for b.Loop() {
		at = (at + 7) % len(inv.Nodes)
		n, spec := *inv.Nodes[at], *inv.Nodes[at].NodeSpec
		spec.Unschedulable = !spec.Unschedulable
		n.NodeSpec = &spec
		inv.Nodes[at] = &n
		br.Replan()
	}
	printBudget(b, "per change of a node", limitPerChange)
}

func printBudget(b *testing.B, what string, limit float64) {
	ms := float64(b.Elapsed().Microseconds()) / 1000 / float64(b.N)
	b.ReportMetric(ms, "ms/change")
	b.Logf("%s: %.1f ms; limit %.0f ms", what, ms, limit)
}
