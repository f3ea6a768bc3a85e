package capacity

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"
)

// drawState generates a cluster, with extreme amounts too, and workloads that claim devices.
func drawState(t *rapid.T) (*cluster.Inventory, []Workload) {
	amounts := rapid.OneOf(rapid.Int64Range(0, 16), rapid.SampledFrom([]int64{-1, math.MinInt64, math.MaxInt64, 1 << 50}))
	inv := &cluster.Inventory{}
	for i := range rapid.IntRange(0, 6).Draw(t, "nodes") {
		n := nodeOf(fmt.Sprint("n", i), amounts.Draw(t, "gpus"), amounts.Draw(t, "held"))
		n.Ready = rapid.IntRange(0, 4).Draw(t, "ready") > 0
		n.Allocatable["pods"] = amounts.Draw(t, "pods")
		if rapid.Bool().Draw(t, "taint") {
			n.Taints = []corev1.Taint{{Key: "t", Effect: corev1.TaintEffectNoSchedule}}
		}
		inv.Nodes = append(inv.Nodes, n)
	}
	if rapid.Bool().Draw(t, "quota") {
		inv.Quotas = append(inv.Quotas, &cluster.Quota{
			Namespace: "ns", Name: "q", Requests: cluster.Resources{gpu: amounts.Draw(t, "hard")},
			Requested: cluster.Resources{gpu: amounts.Draw(t, "used")},
		})
	}
	if rapid.Bool().Draw(t, "pool") {
		inv.Autoscaler.Pools = []cluster.NodePool{{Name: "p", Left: cluster.Resources{gpu: amounts.Draw(t, "left")}}}
	}
	var workloads []Workload
	for i := range rapid.IntRange(0, 5).Draw(t, "workloads") {
		w := workloadOf(fmt.Sprint("w", i), rapid.Int64Range(1, 8).Draw(t, "per"), rapid.IntRange(0, 20).Draw(t, "claim"))
		w.Replicas = rapid.IntRange(0, 20).Draw(t, "replicas")
		w.Headroom = rapid.SampledFrom([]int64{0, 0, 5, -3, math.MaxInt64}).Draw(t, "headroom")
		w.Pools = rapid.Bool().Draw(t, "pools")
		w.Template.Priority = rapid.SampledFrom([]int32{0, 0, 7}).Draw(t, "priority")
		if rapid.Bool().Draw(t, "tolerates") {
			w.Template.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
		}
		if rapid.IntRange(0, 4).Draw(t, "apart") == 0 {
			w.Template.Repels = apart(w.ScaledObject)
		}
		for j := range rapid.IntRange(0, 3).Draw(t, "pods") {
			node := fmt.Sprint("n", rapid.IntRange(0, 7).Draw(t, "node"))
			w.Pods = append(w.Pods, cluster.Pod{Name: fmt.Sprint(w.ScaledObject, j), Phase: "Running", Node: node, Terminating: rapid.Bool().Draw(t, "terminating")})
		}
		workloads = append(workloads, w)
	}
	return inv, workloads
}

// checkPlan checks the invariants of every plan: no panic, no negative number, bound pods
// keep their devices, and the grants never exceed the free devices.
func checkPlan(t *rapid.T) {
	inv, workloads := drawState(t)
	var p Planner
	plan := p.Plan(inv, workloads)
	shares := int64(0)
	headroom := int64(0)
	for _, w := range workloads {
		r, ok := plan.Allocation(w.Namespace, w.ScaledObject)
		require.True(t, ok)
		require.GreaterOrEqual(t, r.Bound, 0)
		require.GreaterOrEqual(t, r.Replicas, r.Bound, r.String())
		require.GreaterOrEqual(t, r.Free, int64(0))
		require.GreaterOrEqual(t, r.Claimed, int64(0))
		m := plan.index[object{w.Namespace, w.ScaledObject}]
		require.GreaterOrEqual(t, m.granted, 0)
		require.LessOrEqual(t, m.granted, max(0, w.Claim-r.Bound), "grants do not exceed the claim")
		if m.bound+m.granted < w.Claim {
			require.Equal(t, r.Bound+m.granted+r.Replacing, r.Replicas, "an unmet claim gets all that fits")
		}
		shares += int64(m.granted) * w.Device.PerReplica
		headroom += min(max(w.Headroom, 0), 1<<20)
	}
	free := headroom
	for i, offered := range plan.offered[gpu] {
		free += min(max(offered, 0), 1<<20)
		require.GreaterOrEqual(t, plan.free[gpu][i], min(offered, 0), "grants do not exceed the free devices of a place")
	}
	require.LessOrEqual(t, shares, free)

	again := (&Planner{}).Plan(inv, workloads)
	for _, w := range workloads {
		r, _ := plan.Allocation(w.Namespace, w.ScaledObject)
		other, _ := again.Allocation(w.Namespace, w.ScaledObject)
		require.Equal(t, r, other, "the plans of two scalers are equal")
	}
}

func TestPlanHolds(t *testing.T) { rapid.Check(t, checkPlan) }

func FuzzPlan(f *testing.F) { f.Fuzz(rapid.MakeFuzz(checkPlan)) }

// TestPlansConverge applies plans as KEDA and the scheduler do, in random order, to workloads
// of constant demand. The replica counts must converge, and every claim that fits must be met.
func TestPlansConverge(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		inv := &cluster.Inventory{}
		for i := range 1 + rng.IntN(4) {
			inv.Nodes = append(inv.Nodes, nodeOf(fmt.Sprint("n", i), int64(1+rng.IntN(8)), 0))
		}
		var workloads []*Workload
		for i := range 2 + rng.IntN(4) {
			w := workloadOf(fmt.Sprint("w", i), int64(1+rng.IntN(2)), rng.IntN(12))
			workloads = append(workloads, &w)
		}
		var p Planner
		unchanged := 0
		for step := 0; unchanged < 200; step++ {
			require.Less(t, step, 20_000, "seed %d does not converge", seed)
			if advance(rng, &p, inv, workloads) {
				unchanged = 0
			} else {
				unchanged++
			}
		}
		plan := p.Plan(inv, values(workloads))
		for _, w := range workloads {
			r, _ := plan.Allocation("ns", w.ScaledObject)
			require.Equal(t, min(w.Claim, r.Replicas), w.Replicas, "seed %d", seed)
			require.Equal(t, w.Replicas, r.Bound, "seed %d: no pod is pending", seed)
		}
	}
}

func values(workloads []*Workload) (all []Workload) {
	for _, w := range workloads {
		all = append(all, *w)
	}
	return all
}

// advance applies one step and reports whether it changed anything. KEDA sets spec.replicas
// of a workload, or the scheduler binds one of its pods.
func advance(rng *rand.Rand, p *Planner, inv *cluster.Inventory, workloads []*Workload) bool {
	w := workloads[rng.IntN(len(workloads))]
	next := *w.Workload
	changed := false
	if rng.IntN(2) == 0 {
		r, _ := p.Plan(inv, values(workloads)).Allocation("ns", w.ScaledObject)
		changed = next.Replicas != min(w.Claim, r.Replicas)
		next.Replicas = min(w.Claim, r.Replicas)
	}
	next.Pods = append([]cluster.Pod(nil), w.Pods...)
	for len(next.Pods) > next.Replicas { // the newest pod terminates first
		last := next.Pods[len(next.Pods)-1]
		next.Pods = next.Pods[:len(next.Pods)-1]
		changed = true
		for _, n := range inv.Nodes {
			if n.Name == last.Node {
				n.Held[gpu] -= w.Device.PerReplica
			}
		}
	}
	if len(next.Pods) < next.Replicas {
		for _, i := range rng.Perm(len(inv.Nodes)) {
			if n := inv.Nodes[i]; n.Allocatable[gpu]-n.Held[gpu] >= w.Device.PerReplica {
				n.Held[gpu] += w.Device.PerReplica
				next.Pods = append(next.Pods, cluster.Pod{Name: fmt.Sprint(w.ScaledObject, len(next.Pods)), Phase: "Running", Node: n.Name})
				changed = true
				break
			}
		}
	}
	w.Workload = &next
	return changed
}
