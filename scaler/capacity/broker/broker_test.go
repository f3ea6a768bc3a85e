package broker

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	"github.com/inference-scaler/inference-scaler/scaler/decision"
	"github.com/inference-scaler/inference-scaler/scaler/trigger"
)

// gpus is an inventory of one node with so many GPUs, and of workloads without pods
// whose replicas hold one each.
func gpus(n int64, workloads ...string) *cluster.Inventory {
	inv := &cluster.Inventory{Nodes: []*cluster.Node{{
		NodeSpec: &cluster.NodeSpec{Name: "node", Ready: true, Allocatable: cluster.Resources{gpu: n, "pods": 110}},
		Held:     cluster.Resources{},
	}}}
	for _, name := range workloads {
		inv.Workloads = append(inv.Workloads, &cluster.Workload{
			Namespace: "asr", ScaledObject: name, Name: name, Kind: "Deployment", MaxReplicas: 100,
			Template: &cluster.PodTemplate{Requests: cluster.Resources{gpu: 1, "pods": 1}},
		})
	}
	return inv
}

var auto = trigger.Capacity{Mode: trigger.CapacityAuto}

// wanting is a decision that asks for so many replicas, on what the claimant was answered.
func wanting(c *Claimant, w *cluster.Workload, replicas int) *decision.Decision {
	return &decision.Decision{DemandReplicas: replicas, Input: decision.Input{Capacity: c.Capacity(w)}}
}

func open(b *Broker, name string, notify func(time.Duration)) *Claimant {
	return b.Open(cluster.NamespacedName{Namespace: "asr", Name: name}, auto, notify)
}

func silent(time.Duration) {}

// Two workloads that ask for more than there is get half each. A claim that shrinks, or
// is withdrawn, leaves its GPUs to the other one.
func TestClaimsShare(t *testing.T) {
	inv := gpus(8, "a", "b")
	b := New(func() (*cluster.Inventory, error) { return inv, nil }, false)
	a, c := open(b, "a", silent), open(b, "b", silent)
	share := func(c *Claimant, i int) int {
		b.Replan()
		return c.Capacity(inv.Workloads[i]).Replicas
	}
	a.Set(wanting(a, inv.Workloads[0], 20), true)
	c.Set(wanting(c, inv.Workloads[1], 20), true)
	require.Equal(t, []int{4, 4}, []int{share(a, 0), share(c, 1)})
	a.Set(wanting(a, inv.Workloads[0], 1), true)
	require.Equal(t, 7, share(c, 1))
	a.Set(wanting(a, inv.Workloads[0], 20), true)
	a.Close()
	require.Equal(t, 8, share(c, 1))
}

// The claim of an undeclared trigger counts only if the ScaledObject declares none.
func TestClaimsOfUndeclaredTriggers(t *testing.T) {
	inv := gpus(20, "a", "b")
	b := New(func() (*cluster.Inventory, error) { return inv, nil }, false)
	old, other := open(b, "a", silent), open(b, "b", silent)
	other.Set(wanting(other, inv.Workloads[1], 20), true)
	share := func() int {
		b.Replan()
		return other.Capacity(inv.Workloads[1]).Replicas
	}
	old.Set(wanting(old, inv.Workloads[0], 20), false)
	require.Equal(t, 10, share(), "no trigger is declared")
	declared := open(b, "a", silent)
	declared.Set(wanting(declared, inv.Workloads[0], 2), true)
	require.Equal(t, 18, share())
	declared.Close()
	require.Equal(t, 10, share())
}

// A plan that takes long delays neither claims nor the informers nor evaluations.
func TestPlanDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inv, slow := gpus(8, "a"), atomic.Bool{}
		b := New(func() (*cluster.Inventory, error) {
			if slow.Load() {
				time.Sleep(10 * time.Second) // virtual
			}
			return inv, nil
		}, false)
		a := open(b, "a", silent)
		a.Set(wanting(a, inv.Workloads[0], 3), true)
		b.Replan()
		slow.Store(true)
		go b.Replan()
		synctest.Wait()
		begun := time.Now()
		b.InventoryChanged()
		a.Set(wanting(a, inv.Workloads[0], 5), true)
		require.Equal(t, 8, a.Capacity(inv.Workloads[0]).Replicas)
		require.Zero(t, time.Since(begun))
		time.Sleep(time.Minute)
	})
}

// An evaluation that was answered from the plan before the newest is repeated: the newest
// plan was compared with the answer before that evaluation.
func TestOutdatedAnswerIsRepeated(t *testing.T) {
	inv := gpus(8, "a")
	b := New(func() (*cluster.Inventory, error) { return inv, nil }, false)
	var notified []time.Duration
	a := open(b, "a", func(after time.Duration) { notified = append(notified, after) })
	a.Set(wanting(a, inv.Workloads[0], 5), true)
	b.Replan()
	require.Empty(t, notified)

	d := wanting(a, inv.Workloads[0], 20) // reads the plan with 8 GPUs
	d.Limited = true
	inv = gpus(2, "a")
	b.Replan() // 5 are more than the cluster can hold now
	require.Equal(t, []time.Duration{0}, notified)
	a.Set(d, true)
	require.Equal(t, []time.Duration{0, 0}, notified)
	a.Set(wanting(a, inv.Workloads[0], 20), true)
	require.Len(t, notified, 2, "the answer is of the newest plan")
}

func TestWithoutInventory(t *testing.T) {
	w := gpus(1, "a").Workloads[0]
	b := New(nil, false)
	require.True(t, b.Synced())
	require.False(t, b.Capacity(w, auto).Applies)
	b = New(func() (*cluster.Inventory, error) { return nil, fmt.Errorf("nodes: %w", cluster.ErrNotSynced) }, false)
	require.False(t, b.Synced())
	require.Equal(t, "nodes: not synced with the cluster yet", b.Capacity(w, auto).Err)
}
