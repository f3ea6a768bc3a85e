package scaler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	"github.com/inference-scaler/inference-scaler/metricsource/schedule"
	"github.com/inference-scaler/inference-scaler/scaler/capacity"
	"github.com/inference-scaler/inference-scaler/scaler/decision"
	"github.com/inference-scaler/inference-scaler/scaler/trigger"
)

// rooms shares the GPUs of the cluster among the workloads of all triggers. It plans
// anew when the cluster's inventory or a claim has changed, at most every minGap, and
// not otherwise.
type rooms struct {
	cluster Cluster // nil: there is nothing to be shared
	// fixed: no autoscaler adds nodes, whatever the cluster looks like.
	fixed bool
	news  chan struct{} // a token when the plan is not up to date

	mu      sync.Mutex
	claims  map[object]map[*live]claim
	planner capacity.Planner
	waits   map[object]wait
	plan    *capacity.Plan // nil: err says why
	nodes   cluster.NodeAutoscaler
	err     error
	planned time.Time
	stale   bool
}

// lapsesAfter is how long replicas that were given keep room from others while no pod of
// theirs is bound: something else is in their way then.
const lapsesAfter = time.Minute

// wait is since when a workload has had replicas without a node.
type wait struct {
	bound, replicas int
	since           time.Time
}

// claim is what one trigger asks for, and says of its replicas.
type claim struct {
	asks     trigger.Capacity
	stands   bool // by the ScaledObject as it is now
	decided  bool
	replicas int // before capacity was looked at
}

func newRooms(cluster Cluster, fixed bool) *rooms {
	return &rooms{cluster: cluster, fixed: fixed, news: make(chan struct{}, 1), claims: map[object]map[*live]claim{}, waits: map[object]wait{}, stale: true}
}

// run plans when there is news, and has those evaluated for whom it changes the answer.
func (r *rooms) run(ctx context.Context, wake func(l *live, after time.Duration)) {
	if r.cluster == nil {
		return
	}
	lapse := time.NewTicker(lapsesAfter / 4)
	defer lapse.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-lapse.C:
			if !r.lapsed() {
				continue
			}
		case <-r.news:
		}
		if !r.rest(ctx) {
			return
		}
		answers, words := r.affected()
		for _, l := range answers {
			wake(l, 0)
		}
		for _, l := range words {
			wake(l, wordStands)
		}
	}
}

// rest waits until the last plan is old enough for the next one; false when ctx is done.
func (r *rooms) rest(ctx context.Context) bool {
	r.mu.Lock()
	wait := time.Until(r.planned.Add(minGap))
	r.mu.Unlock()
	return schedule.Sleep(ctx, wait)
}

// changed takes note that the inventory is another one. It is quick.
func (r *rooms) changed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outdate()
}

// uncounted: what the nodes hold will be known, and is not yet.
func (r *rooms) uncounted() bool {
	if r.cluster == nil {
		return false
	}
	_, err := r.cluster.Inventory()
	return errors.Is(err, cluster.ErrNotSynced)
}

// outdate has a new plan made; the caller holds the lock.
func (r *rooms) outdate() {
	r.stale = true
	select {
	case r.news <- struct{}{}:
	default:
	}
}

// wordStands is how long an answer may tell of room that is another one by now, where
// that changes nothing but what is told. A trigger with pods decides as often anyway.
const wordStands = time.Second

// affected plans, and returns the triggers whose answers the plan changes, and those
// that only tell of room that is another one.
func (r *rooms) affected() (answers, words []*live) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stale {
		r.replan()
	}
	for o, triggers := range r.claims {
		room, known := r.roomOf(o)
		for l := range triggers {
			a := l.answer.Load()
			if a == nil || a.decision == nil {
				continue
			}
			was := a.decision.Input.Capacity
			short := known && a.decision.Demanded > room.Replicas
			differs := known != (was.Asked && was.Err == "") || was.Replicas != room.Replicas
			turned := short && was.Limits() != (r.observed(l.trigger.Capacity, room) == "")
			switch {
			case turned, differs && (short || a.decision.Limited):
				answers = append(answers, l)
			case differs:
				words = append(words, l)
			}
		}
	}
	return answers, words
}

func (r *rooms) roomOf(o object) (capacity.Room, bool) {
	if r.plan == nil {
		return capacity.Room{}, false
	}
	return r.plan.Room(o.namespace, o.name)
}

// replan shares what there is among all claims; the caller holds the lock.
func (r *rooms) replan() {
	r.stale, r.planned = false, time.Now()
	inventory, err := r.cluster.Inventory()
	if err != nil {
		r.plan, r.err = nil, err
		return
	}
	workloads := make([]capacity.Workload, 0, len(r.claims))
	for _, w := range inventory.Workloads {
		triggers := standing(slices.Collect(maps.Values(r.claims[object{w.Namespace, w.ScaledObject}])), claim.standing)
		if len(triggers) == 0 || w.Template == nil {
			continue
		}
		if cw, ok := r.workload(w, joined(triggers)); ok {
			cw.Claim = claimed(w, triggers)
			if waits, wait := r.wait(w), r.waits[object{w.Namespace, w.ScaledObject}]; waits && r.planned.Sub(wait.since) >= lapsesAfter {
				cw.Claim = min(cw.Claim, wait.bound)
			}
			workloads = append(workloads, cw)
		}
	}
	for o := range r.waits {
		if _, ok := r.claims[o]; !ok {
			delete(r.waits, o)
		}
	}
	r.plan, r.err, r.nodes = r.planner.Plan(inventory, workloads), nil, inventory.Autoscaler
}

func (c claim) standing() bool { return c.stands }

// wait notes how long a workload has been given replicas that no node has taken, none of
// which has been bound meanwhile; false where all are bound.
func (r *rooms) wait(w *cluster.Workload) bool {
	o, bound := object{w.Namespace, w.ScaledObject}, w.Bound()
	if bound >= w.Replicas {
		delete(r.waits, o)
		return false
	}
	if was, ok := r.waits[o]; !ok || was.bound != bound || was.replicas != w.Replicas {
		r.waits[o] = wait{bound, w.Replicas, r.planned}
	}
	return true
}

// lapsed reports whether somebody has waited for so long that others go first; that is
// no news of the cluster's.
func (r *rooms) lapsed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.waits {
		if at := w.since.Add(lapsesAfter); at.After(r.planned) && !at.After(time.Now()) {
			r.stale = true
			return true
		}
	}
	return false
}

// joined is what the triggers of a ScaledObject say of its replicas together.
func joined(triggers []claim) trigger.Capacity {
	out := trigger.Capacity{Mode: trigger.CapacityObserve}
	for _, c := range triggers {
		if c.asks.Mode == trigger.CapacityAuto || c.asks.Mode == trigger.CapacityClamp && out.Mode != trigger.CapacityAuto {
			out.Mode = c.asks.Mode
		}
		out.Resource = max(out.Resource, c.asks.Resource)
		out.PerReplica = max(out.PerReplica, c.asks.PerReplica)
		out.Headroom = max(out.Headroom, c.asks.Headroom)
	}
	return out
}

// workload is what a plan counts of one; false where its replicas hold nothing.
func (r *rooms) workload(w *cluster.Workload, asks trigger.Capacity) (capacity.Workload, bool) {
	d := capacity.DeviceOf(w.Template, asks.Resource, asks.PerReplica)
	return capacity.Workload{
		Workload: w, Device: d, Headroom: asks.Headroom,
		Pools: asks.Mode != trigger.CapacityClamp && !r.fixed,
	}, d.PerReplica > 0
}

// claimed is how many replicas a workload asks for as KEDA will take it: the most of
// its triggers, within its bounds. Until they have decided, and while it is paused, it
// is what it has.
func claimed(w *cluster.Workload, triggers []claim) int {
	most := 0
	for _, c := range triggers {
		if !c.decided || w.Paused {
			return min(w.Replicas, decision.MaxReplicas)
		}
		most = max(most, c.replicas)
	}
	return min(w.Within(most), decision.MaxReplicas)
}

// claim takes note of what a trigger asks for.
func (r *rooms) claim(l *live, d *decision.Decision) {
	if !d.Input.Capacity.Asked {
		return
	}
	asked := d.Demanded
	if d.Active {
		asked = max(asked, 1)
	}
	r.put(l, claim{asks: l.trigger.Capacity, stands: l.stands(), decided: true, replicas: asked})
}

func (r *rooms) put(l *live, c claim) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.claims[l.object] == nil {
		r.claims[l.object] = map[*live]claim{}
	}
	if r.claims[l.object][l] != c {
		r.claims[l.object][l] = c
		r.outdate()
	}
}

// leave forgets a trigger.
func (r *rooms) leave(l *live) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.claims[l.object][l]; !ok {
		return
	}
	if delete(r.claims[l.object], l); len(r.claims[l.object]) == 0 {
		delete(r.claims, l.object)
	}
	r.outdate()
}

// of says what room there is for a workload, by what a trigger says of its replicas.
func (r *rooms) of(w *cluster.Workload, asks trigger.Capacity) decision.Capacity {
	if r.cluster == nil || w == nil || asks.Mode == trigger.CapacityOff {
		return decision.Capacity{}
	}
	insists := asks.Mode == trigger.CapacityClamp || asks.PerReplica > 0
	if w.Template == nil {
		return decision.Capacity{Asked: insists, Err: fmt.Sprintf("the pods of a %s have no template that is read", w.Kind)}
	}
	cw, holds := r.workload(w, asks)
	if !holds {
		return decision.Capacity{Asked: insists, Err: "its pods request no GPU; wanted: a request, or gpusPerReplica"}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.planned.IsZero() || r.stale && time.Since(r.planned) >= minGap {
		r.replan()
	}
	if r.plan == nil {
		return decision.Capacity{Asked: true, Err: r.err.Error()}
	}
	room, shared := r.plan.Room(w.Namespace, w.ScaledObject)
	if !shared {
		room = r.plan.Leftover(cw)
	}
	out := decision.Capacity{Asked: true, Replicas: room.Replicas, Most: w.MaxReplicas}
	out.Observed = r.observed(asks, room)
	out.Why = room.String()
	if room.Unknown != "" {
		out.Why += "; not counted: " + room.Unknown
	}
	return out
}

// observed says why the room is no limit; empty where it is one.
func (r *rooms) observed(asks trigger.Capacity, room capacity.Room) string {
	a := r.nodes
	switch {
	case asks.Mode == trigger.CapacityClamp:
		return ""
	case asks.Mode == trigger.CapacityObserve:
		return "gpuCapacity is observe"
	case room.Unknown != "":
		return "not all that decides is counted: " + room.Unknown
	case r.fixed || asks.Headroom > 0:
		return ""
	case a.Unknown != "":
		return "it is not known whether nodes will be added: " + a.Unknown
	case a.Found == "" || a.Exhausted:
		return ""
	case room.Unlimited != "":
		return fmt.Sprintf("NodePool %s may add any number of %s", room.Unlimited, room.Device.Resource)
	case a.Pools != nil:
		return ""
	}
	return "nodes may be added (" + a.Found + "), and gpuHeadroom does not say how many GPUs"
}
