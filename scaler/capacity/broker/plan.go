package broker

import (
	"fmt"
	"slices"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	"github.com/inference-scaler/inference-scaler/scaler/capacity"
	"github.com/inference-scaler/inference-scaler/scaler/decision"
	"github.com/inference-scaler/inference-scaler/scaler/trigger"
)

// wait is since when a workload has had replicas that no node has taken.
type wait struct {
	bound, replicas int
	since           time.Time
}

// replan shares the inventory among all claims.
func (b *Broker) replan() *shares {
	b.planning.Lock()
	defer b.planning.Unlock()
	return b.makePlan()
}

// present returns the present plan. It makes the first one.
func (b *Broker) present() *shares {
	if p := b.plan.Load(); p != nil {
		return p
	}
	b.planning.Lock()
	defer b.planning.Unlock()
	if p := b.plan.Load(); p != nil { // made by another evaluation meanwhile
		return p
	}
	return b.makePlan()
}

// makePlan makes a plan. The caller holds planning.
func (b *Broker) makePlan() *shares {
	claims := b.claims()
	p := &shares{made: time.Now()}
	inventory, err := b.inventory()
	if err != nil {
		p.err = err
	} else {
		p.plan, p.autoscaler = b.planner.Plan(inventory, b.workloads(inventory, claims, p.made)), inventory.Autoscaler
	}
	b.plan.Store(p)
	return p
}

// claims returns all claims.
func (b *Broker) claims() map[cluster.NamespacedName][]Claim {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make(map[cluster.NamespacedName][]Claim, len(b.claimants))
	for o, triggers := range b.claimants {
		for c := range triggers {
			all[o] = append(all[o], *c.claim)
		}
	}
	return all
}

func (b *Broker) workloads(inventory *cluster.Inventory, claims map[cluster.NamespacedName][]Claim, now time.Time) []capacity.Workload {
	all := make([]capacity.Workload, 0, len(claims))
	for _, w := range inventory.Workloads {
		o := cluster.NamespacedName{Namespace: w.Namespace, Name: w.ScaledObject}
		of := effective(claims[o])
		if len(of) == 0 || w.Template == nil {
			continue
		}
		asks := make([]trigger.Capacity, len(of))
		for i, c := range of {
			asks[i] = c.Asks
		}
		cw, holds := b.workload(w, Combine(asks))
		if !holds {
			continue
		}
		cw.Claim = claimed(w, of)
		if b.updateWait(o, w, now) && now.Sub(b.waiting[o].since) >= unboundLimit {
			cw.Claim = min(cw.Claim, b.waiting[o].bound)
		}
		all = append(all, cw)
	}
	for o := range b.waiting {
		if _, ok := claims[o]; !ok {
			delete(b.waiting, o)
		}
	}
	return all
}

// effective leaves out the claims of triggers that the ScaledObject does not declare,
// unless it declares none. The evaluator has the same rule for the triggers themselves.
func effective(claims []Claim) []Claim {
	declared := func(c Claim) bool { return c.Declared }
	if !slices.ContainsFunc(claims, declared) {
		return claims
	}
	return slices.DeleteFunc(slices.Clone(claims), func(c Claim) bool { return !c.Declared })
}

// updateWait records how long none of a workload's unbound replicas has been bound;
// false if all are. The caller holds planning.
func (b *Broker) updateWait(o cluster.NamespacedName, w *cluster.Workload, now time.Time) bool {
	bound := w.Bound()
	if bound >= w.Replicas {
		delete(b.waiting, o)
		return false
	}
	if was, ok := b.waiting[o]; !ok || was.bound != bound || was.replicas != w.Replicas {
		b.waiting[o] = wait{bound, w.Replicas, now}
	}
	return true
}

// expired reports whether replicas have been unbound for so long that others go first.
// No event of the cluster marks that moment.
func (b *Broker) expired() bool {
	b.planning.Lock()
	defer b.planning.Unlock()
	p := b.plan.Load()
	for _, u := range b.waiting {
		if at := u.since.Add(unboundLimit); at.After(p.made) && !at.After(time.Now()) {
			return true
		}
	}
	return false
}

// Combine returns what the triggers of one ScaledObject ask for together.
func Combine(asks []trigger.Capacity) trigger.Capacity {
	out := trigger.Capacity{Mode: trigger.CapacityObserve}
	for _, a := range asks {
		if a.Mode == trigger.CapacityAuto || a.Mode == trigger.CapacityClamp && out.Mode != trigger.CapacityAuto {
			out.Mode = a.Mode
		}
		out.Resource = max(out.Resource, a.Resource)
		out.PerReplica = max(out.PerReplica, a.PerReplica)
		out.Headroom = max(out.Headroom, a.Headroom)
	}
	return out
}

// workload is what a plan counts of one; false if its replicas hold no devices.
func (b *Broker) workload(w *cluster.Workload, asks trigger.Capacity) (capacity.Workload, bool) {
	d := capacity.DeviceOf(w.Template, asks.Resource, asks.PerReplica)
	return capacity.Workload{
		Workload: w, Device: d, Headroom: asks.Headroom,
		Pools: asks.Mode != trigger.CapacityClamp && !b.fixedNodes,
	}, d.PerReplica > 0
}

// claimed is how many replicas a workload asks for as KEDA applies it: the most of its
// triggers, within its bounds; the present number while the workload is paused.
func claimed(w *cluster.Workload, claims []Claim) int {
	if w.Paused {
		return min(w.Replicas, decision.MaxReplicas)
	}
	most := 0
	for _, c := range claims {
		most = max(most, c.Replicas)
	}
	return min(w.Within(most), decision.MaxReplicas)
}

// Capacity returns how many replicas of a workload the cluster can hold, by what a
// trigger asks of its replicas. The workload may be nil: nothing is counted.
func (b *Broker) Capacity(w *cluster.Workload, asks trigger.Capacity) decision.Capacity {
	d, _ := b.capacity(w, asks)
	return d
}

func (b *Broker) capacity(w *cluster.Workload, asks trigger.Capacity) (decision.Capacity, *shares) {
	if b.inventory == nil || w == nil || asks.Mode == trigger.CapacityOff {
		return decision.Capacity{}, nil
	}
	required := asks.Mode == trigger.CapacityClamp || asks.PerReplica > 0
	if w.Template == nil {
		return decision.Capacity{Applies: required, Err: fmt.Sprintf("the pods of a %s have no template that is read", w.Kind)}, nil
	}
	cw, holds := b.workload(w, asks)
	if !holds {
		return decision.Capacity{Applies: required, Err: "its pods request no GPU; wanted: a request, or gpusPerReplica"}, nil
	}
	p := b.present()
	if p.plan == nil {
		return decision.Capacity{Applies: true, Err: p.err.Error()}, p
	}
	share, shared := p.plan.Allocation(w.Namespace, w.ScaledObject)
	if !shared {
		share = p.plan.Leftover(cw)
	}
	out := decision.Capacity{Applies: true, Replicas: share.Replicas, MaxReplicas: w.MaxReplicas}
	out.Observed = b.observed(p, asks, share)
	out.Why = share.String()
	if share.Unknown != "" {
		out.Why += "; not counted: " + share.Unknown
	}
	return out, p
}

// observed says why the capacity is no limit; empty if it is one.
func (b *Broker) observed(p *shares, asks trigger.Capacity, share capacity.Allocation) string {
	a := p.autoscaler
	switch {
	case asks.Mode == trigger.CapacityClamp:
		return ""
	case asks.Mode == trigger.CapacityObserve:
		return "gpuCapacity is observe"
	case share.Unknown != "":
		return "some limits are not counted: " + share.Unknown
	case b.fixedNodes || asks.Headroom > 0:
		return ""
	case a.Unknown != "":
		return "whether nodes will be added is unknown: " + a.Unknown
	case a.Found == "" || a.Exhausted:
		return ""
	case share.Unlimited != "":
		return fmt.Sprintf("NodePool %s may add any number of %s", share.Unlimited, share.Device.Resource)
	case a.Pools != nil:
		return ""
	}
	return "nodes may be added (" + a.Found + "), and gpuHeadroom is not set"
}
