package evaluator

import (
	"fmt"
	"slices"
	"strings"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	"github.com/inference-scaler/inference-scaler/scaler/capacity/broker"
	"github.com/inference-scaler/inference-scaler/scaler/decision"
	"github.com/inference-scaler/inference-scaler/scaler/trigger"
)

// leaderName is the workload that the trigger follows; false if it follows none.
func (t *Trigger) leaderName() (cluster.NamespacedName, bool) {
	f := t.spec.Follow
	if f == nil {
		return cluster.NamespacedName{}, false
	}
	return cluster.NamespacedName{Namespace: t.object.Namespace, Name: f.Name}, true
}

// leader is the evidence of the workload that the trigger follows; with what the GPUs can
// hold of it, or without.
func (t *Trigger) leader(capacity bool) decision.Leader {
	f, e := t.spec.Follow, t.evaluator
	if f == nil {
		return decision.Leader{}
	}
	in := decision.Leader{Configured: true, Name: f.String(), Ratio: f.Ratio, Exclusive: t.spec.Load == nil}
	w, err := e.opts.Cluster.Leader(t.object.Namespace, f.Kind, f.Name)
	if t.sources.cycle != nil {
		err, in.Ignored = t.sources.cycle, true
	}
	if err != nil {
		in.Err = err.Error()
		return in
	}
	in.Replicas = w.Replicas
	for _, p := range w.Pods {
		if !p.Finished() && (p.Ready || p.Terminating) {
			in.Pods++
		}
	}
	if w.ScaledObject != "" && !w.Paused {
		in.Desired = e.wanted(&w)
	}
	if !capacity {
		return in
	}
	// Replicas that no GPU can hold will not run, and need no API server.
	if c := e.broker.Capacity(&w, e.capacityOf(&w)); c.Limits() {
		in.Desired, in.Replicas = min(in.Desired, c.Replicas), min(in.Replicas, c.Replicas)
	}
	return in
}

func scaledObjectOf(w *cluster.Workload) cluster.NamespacedName {
	return cluster.NamespacedName{Namespace: w.Namespace, Name: w.ScaledObject}
}

// capacityOf is what the triggers of a workload ask of its replicas' GPUs.
func (e *Evaluator) capacityOf(w *cluster.Workload) trigger.Capacity {
	var asks []trigger.Capacity
	if w.ScaledObject != "" {
		for _, t := range e.triggers.effective(scaledObjectOf(w)) {
			asks = append(asks, t.spec.Capacity)
		}
	}
	if len(asks) == 0 {
		return trigger.Capacity{Mode: trigger.CapacityAuto}
	}
	return broker.Combine(asks)
}

// wanted is how many replicas the triggers of a workload ask for, as the HPA applies
// them: the most, within the bounds; 0 if none has decided.
func (e *Evaluator) wanted(w *cluster.Workload) int {
	decided, most := false, 0
	for _, t := range e.triggers.effective(scaledObjectOf(w)) {
		a := t.answer.Load()
		if a.Decision == nil {
			continue
		}
		decided = true
		if a.Decision.Active {
			most = max(most, a.Decision.Replicas, 1)
		}
	}
	if !decided {
		return 0
	}
	return w.Within(most)
}

// wakeFollowers has the triggers evaluated that follow this one's workload.
func (e *Evaluator) wakeFollowers(t *Trigger) {
	if w := t.answer.Load().Workload; w != nil {
		for _, f := range e.triggers.followersOf(cluster.NamespacedName{Namespace: t.object.Namespace, Name: w.Name}) {
			e.evaluateSoon(f, 0)
		}
	}
}

// findCycle is an error if the trigger's leaders lead back to its own workload. A
// trigger with a load of its own is decided by that load then: another author may have
// closed the cycle.
func (t *Trigger) findCycle() error {
	if t.spec.Follow == nil || t.sources.workload == nil {
		return nil
	}
	if path := t.pathBack(t.spec.Follow, []string{t.sources.workload.Name}, map[string]bool{}); path != nil {
		return fmt.Errorf("%w: follow: %q; a workload cannot follow itself: %s", ErrMetadata, t.spec.Follow.String(), strings.Join(path, " → "))
	}
	return nil
}

// pathBack is the path on which a leader leads back to where the path begins, by any of
// its triggers; nil if there is none. It is a depth-first search: a cycle that this
// workload is not part of is reported to the workloads in it.
func (t *Trigger) pathBack(next *trigger.Follow, path []string, seen map[string]bool) []string {
	name := strings.ToLower(next.String())
	if seen[name] {
		return nil
	}
	seen[name] = true
	path = append(slices.Clone(path), next.Name)
	if next.Name == path[0] && (next.Kind == "" || strings.EqualFold(next.Kind, t.sources.workload.Kind)) {
		return path
	}
	w, err := t.evaluator.opts.Cluster.Leader(t.object.Namespace, next.Kind, next.Name)
	if err != nil || w.ScaledObject == "" {
		return nil
	}
	for _, leader := range t.evaluator.triggers.effective(scaledObjectOf(&w)) {
		if f := leader.spec.Follow; f != nil {
			if back := t.pathBack(f, path, seen); back != nil {
				return back
			}
		}
	}
	return nil
}
