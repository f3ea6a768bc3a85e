// Package broker shares the GPUs of the cluster among the workloads of all triggers.
// Each trigger claims the replicas that it asks for; the broker plans anew when the
// inventory or a claim has changed, and calls back those whose answer that changes.
//
// A plan is made, and compared with the answers, outside the locks that claims,
// evaluations and informers take. Only the first plan makes an evaluation wait.
package broker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	"github.com/inference-scaler/inference-scaler/metricsource/schedule"
	"github.com/inference-scaler/inference-scaler/scaler/capacity"
	"github.com/inference-scaler/inference-scaler/scaler/decision"
	"github.com/inference-scaler/inference-scaler/scaler/trigger"
)

const (
	// minGap is the least time between two plans.
	minGap = 100 * time.Millisecond
	// explanationDelay is how long an explanation may show an outdated capacity when the
	// replica count would not change. A trigger with pods decides as often anyway.
	explanationDelay = time.Second
	// unboundLimit is how long replicas that were given keep GPUs from others while none
	// of their pods is bound. Something else prevents these pods then.
	unboundLimit = time.Minute
)

// Claim is what one trigger asks for.
type Claim struct {
	Asks trigger.Capacity
	// Declared: the ScaledObject declares the trigger. Beside declared triggers, the
	// claims of others do not count.
	Declared bool
	Replicas int // before capacity
}

// Claimant is one trigger. Its methods are safe for concurrent use.
type Claimant struct {
	broker *Broker
	object cluster.NamespacedName
	asks   trigger.Capacity
	notify func(after time.Duration)
	read   atomic.Pointer[shares] // the plan that Capacity answered from last

	// Under the broker's lock:
	claim  *Claim // nil before the first one
	answer answer
}

// answer is the part of a trigger's answer that capacity may change.
type answer struct {
	demanded int
	limited  bool
	capacity decision.Capacity
}

// Broker plans. Its methods are safe for concurrent use.
type Broker struct {
	inventory  func() (*cluster.Inventory, error) // nil without Kubernetes
	fixedNodes bool
	dirty      chan struct{} // holds a token while the plan is outdated

	mu        sync.Mutex
	claimants map[cluster.NamespacedName]map[*Claimant]struct{}

	planning sync.Mutex // held while a plan is made
	planner  capacity.Planner
	waiting  map[cluster.NamespacedName]wait

	plan atomic.Pointer[shares] // nil before the first one
}

// shares is one plan. It is immutable.
type shares struct {
	plan       *capacity.Plan // nil: err says why
	autoscaler cluster.NodeAutoscaler
	made       time.Time
	err        error
}

// New returns a Broker of the inventory; nil: there is no Kubernetes, and nothing to
// share. With fixedNodes no autoscaler adds nodes, whatever the cluster looks like.
func New(inventory func() (*cluster.Inventory, error), fixedNodes bool) *Broker {
	return &Broker{
		inventory: inventory, fixedNodes: fixedNodes, dirty: make(chan struct{}, 1),
		claimants: map[cluster.NamespacedName]map[*Claimant]struct{}{}, waiting: map[cluster.NamespacedName]wait{},
	}
}

// Open returns the claimant of a trigger of the ScaledObject. It counts from its first Set,
// until it is closed.
// notify is called when a plan changes the trigger's answer, with how long the next
// evaluation may wait. It must be quick.
func (b *Broker) Open(object cluster.NamespacedName, asks trigger.Capacity, notify func(after time.Duration)) *Claimant {
	return &Claimant{broker: b, object: object, asks: asks, notify: notify}
}

// Set replaces the trigger's claim by that of a decision.
func (c *Claimant) Set(d *decision.Decision, declared bool) {
	if !d.Input.Capacity.Applies {
		c.Close()
		return
	}
	claim := Claim{Asks: c.asks, Declared: declared, Replicas: d.DemandReplicas}
	if d.Active {
		claim.Replicas = max(claim.Replicas, 1)
	}
	a := answer{d.DemandReplicas, d.Limited, d.Input.Capacity}
	c.set(claim, a)
	// A plan that was made since the evaluation began has compared itself with the
	// answer before this one.
	if p := c.broker.plan.Load(); p != nil && c.read.Load() != p {
		share, known := p.of(c.object)
		if after, affected := c.broker.affects(p, c.asks, a, share, known); affected {
			c.notify(after)
		}
	}
}

func (c *Claimant) set(claim Claim, a answer) {
	b := c.broker
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.claimants[c.object] == nil {
		b.claimants[c.object] = map[*Claimant]struct{}{}
	}
	b.claimants[c.object][c] = struct{}{}
	if c.claim == nil || *c.claim != claim {
		c.claim = &claim
		b.outdate()
	}
	c.answer = a
}

// Close withdraws the claim.
func (c *Claimant) Close() {
	b := c.broker
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.claim == nil {
		return
	}
	c.claim = nil
	if delete(b.claimants[c.object], c); len(b.claimants[c.object]) == 0 {
		delete(b.claimants, c.object)
	}
	b.outdate()
}

// Capacity returns how many replicas of the trigger's workload the cluster can hold.
func (c *Claimant) Capacity(w *cluster.Workload) decision.Capacity {
	d, p := c.broker.capacity(w, c.asks)
	c.read.Store(p)
	return d
}

// InventoryChanged marks the plan as outdated. It is quick.
func (b *Broker) InventoryChanged() { b.outdate() }

// outdate requests a new plan.
func (b *Broker) outdate() {
	select {
	case b.dirty <- struct{}{}:
	default:
	}
}

// Synced reports whether the first listing of the nodes has ended, or will not: the
// Broker has Kubernetes, and may read them.
func (b *Broker) Synced() bool {
	if b.inventory == nil {
		return true
	}
	_, err := b.inventory()
	return !errors.Is(err, cluster.ErrNotSynced)
}

// Run plans when something has changed, at most once every 100 ms, until ctx ends.
func (b *Broker) Run(ctx context.Context) {
	if b.inventory == nil {
		return
	}
	expiry := time.NewTicker(unboundLimit / 4)
	defer expiry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-expiry.C:
			if !b.expired() {
				continue
			}
		case <-b.dirty:
		}
		if p := b.plan.Load(); p != nil && !schedule.Sleep(ctx, time.Until(p.made.Add(minGap))) {
			return
		}
		b.Replan()
	}
}

// Replan makes a plan now, and notifies the triggers that it affects.
func (b *Broker) Replan() {
	p := b.replan()
	for o, triggers := range b.answers() {
		share, known := p.of(o)
		for c, a := range triggers {
			if after, affected := b.affects(p, c.asks, a, share, known); affected {
				c.notify(after)
			}
		}
	}
}

// answers returns the last answers of all triggers that claim, by ScaledObject.
func (b *Broker) answers() map[cluster.NamespacedName]map[*Claimant]answer {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make(map[cluster.NamespacedName]map[*Claimant]answer, len(b.claimants))
	for o, triggers := range b.claimants {
		all[o] = make(map[*Claimant]answer, len(triggers))
		for c := range triggers {
			all[o][c] = c.answer
		}
	}
	return all
}

// affects reports whether the plan changes a trigger's answer, or only its explanation,
// which may wait. share is the plan's for the trigger's ScaledObject, if known.
func (b *Broker) affects(p *shares, asks trigger.Capacity, a answer, share capacity.Allocation, known bool) (after time.Duration, affected bool) {
	was := a.capacity
	short := known && a.demanded > share.Replicas
	differs := known != (was.Applies && was.Err == "") || was.Replicas != share.Replicas
	limitChanged := short && was.Limits() != (b.observed(p, asks, share) == "")
	switch {
	case limitChanged, differs && (short || a.limited):
		return 0, true
	case differs:
		return explanationDelay, true
	}
	return 0, false
}

func (p *shares) of(o cluster.NamespacedName) (capacity.Allocation, bool) {
	if p.plan == nil {
		return capacity.Allocation{}, false
	}
	return p.plan.Allocation(o.Namespace, o.Name)
}
