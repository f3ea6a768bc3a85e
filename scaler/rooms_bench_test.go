package scaler

import (
	"fmt"
	"testing"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/inference-scaler/inference-scaler/metricsource/scrape"
)

// limitPerChange is what a change of a node or a pod may cost, in milliseconds.
const limitPerChange = 50

// crowded is a Scaler of 500 triggers over 1000 nodes with 8 GPUs each, of which 8000
// pods hold as many; every trigger asks for more, and each 50th node has come free.
func crowded(b *testing.B) (*Scaler, *fakeCluster) {
	const triggers, nodes, perNode = 500, 1000, 8
	c := &fakeCluster{workloads: map[object]cluster.Workload{}, triggers: map[object][]map[string]string{}}
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
		c.nodes = append(c.nodes, n)
	}
	s := New(Options{Cluster: c, Scraper: scrape.New(scrape.Options{})})
	c.changed, c.moved = s.Changed, s.InventoryChanged
	for i := range triggers {
		o := object{"asr", fmt.Sprintf("so-%03d", i)}
		c.workloads[o] = cluster.Workload{
			Namespace: "asr", ScaledObject: o.name, Kind: "Deployment", Name: o.name, Replicas: len(pods[i]), MaxReplicas: 100, Pods: pods[i],
			Template: &cluster.PodTemplate{
				Requests: pods0, NodeSelector: map[string]string{"pool": "gpu"},
				Tolerations: []corev1.Toleration{{Key: gpu, Operator: corev1.TolerationOpExists}},
			},
		}
		c.triggers[o] = []map[string]string{{"engine": "vllm", "hold": "0s", "target": "1"}}
		c.changed(o.namespace, o.name)
	}
	for _, l := range s.all() {
		l.evaluate(b.Context())
		s.rooms.put(l, claim{asks: l.trigger.Capacity, decided: true, replicas: 100})
	}
	b.Cleanup(func() {
		for _, l := range s.all() {
			l.close()
		}
	})
	return s, c
}

var pods0 = cluster.Resources{gpu: 1, "cpu": 4000, "memory": 8 << 30, "pods": 1}

// BenchmarkCapacityChange is what it costs that a pod has come or gone: to share anew,
// and to find out whose answer that changes.
func BenchmarkCapacityChange(b *testing.B) {
	s, c := crowded(b)
	require.Len(b, s.all(), 500)
	at := 0
	for b.Loop() {
		at = (at + 7) % len(c.nodes)
		n := *c.nodes[at] // as the cluster makes it anew when a pod of it has changed
		n.Held = cluster.Resources{gpu: n.Held[gpu] ^ 1, "cpu": n.Held["cpu"], "memory": n.Held["memory"], "pods": n.Held["pods"]}
		c.nodes[at] = &n
		s.rooms.changed()
		_, _ = s.rooms.affected()
	}
	printBudget(b, "per change of a pod", limitPerChange)
}

// BenchmarkCapacityNode is that of a node itself, whose fit for all templates is new.
func BenchmarkCapacityNode(b *testing.B) {
	s, c := crowded(b)
	at := 0
	for b.Loop() {
		at = (at + 7) % len(c.nodes)
		n, spec := *c.nodes[at], *c.nodes[at].NodeSpec
		spec.Unschedulable = !spec.Unschedulable
		n.NodeSpec = &spec
		c.nodes[at] = &n
		s.rooms.changed()
		_, _ = s.rooms.affected()
	}
	printBudget(b, "per change of a node", limitPerChange)
}

func printBudget(b *testing.B, what string, limit float64) {
	ms := float64(b.Elapsed().Microseconds()) / 1000 / float64(b.N)
	b.ReportMetric(ms, "ms/change")
	b.Logf("%s: %.1f ms; limit %.0f ms", what, ms, limit)
}
