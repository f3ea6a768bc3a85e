package scaler

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	"github.com/inference-scaler/inference-scaler/metricsource"
	"github.com/inference-scaler/inference-scaler/scaler/decision"
	"github.com/inference-scaler/inference-scaler/scaler/trigger"
)

// leaderOf is what a decision looks at of the leader.
func (l *live) leaderOf() decision.Leader {
	f := l.trigger.Follow
	if f == nil {
		return decision.Leader{}
	}
	in := decision.Leader{Asked: true, Name: f.String(), Ratio: f.Ratio, Alone: l.trigger.Load == nil}
	w, err := l.scaler.opts.Cluster.Leader(l.namespace, f.Kind, f.Name)
	if l.cyclic != nil {
		err, in.Void = l.cyclic, true
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
		in.Wanted = l.scaler.wanted(object{l.namespace, w.ScaledObject}, w)
	}
	// What there is no room for will not run, and needs nobody.
	if c := l.scaler.rooms.of(&w, l.scaler.capacityOf(w)); c.Limits() {
		in.Wanted, in.Replicas = min(in.Wanted, c.Replicas), min(in.Replicas, c.Replicas)
	}
	return in
}

// capacityOf is what the triggers of a workload say of its replicas.
func (s *Scaler) capacityOf(w cluster.Workload) trigger.Capacity {
	var said []claim
	if w.ScaledObject != "" {
		for _, l := range s.of(object{w.Namespace, w.ScaledObject}) {
			said = append(said, claim{asks: l.trigger.Capacity, stands: l.stands()})
		}
	}
	if len(said) == 0 {
		return trigger.Capacity{Mode: trigger.CapacityAuto}
	}
	return joined(standing(said, claim.standing))
}

// wanted is how many replicas the triggers of a ScaledObject ask for, as the HPA
// takes them: the most, within the bounds. 0 where none has decided.
func (s *Scaler) wanted(o object, w cluster.Workload) int {
	decided, most := false, 0
	for _, l := range standing(s.of(o), (*live).stands) {
		a := l.answer.Load()
		if a == nil || a.decision == nil {
			continue
		}
		decided = true
		if a.decision.Active {
			most = max(most, a.decision.Replicas, 1)
		}
	}
	if !decided {
		return 0
	}
	return w.Within(most)
}

// of returns the live triggers of a ScaledObject, without a lock: a trigger that is
// being opened asks for them, too. They must not be written to.
func (s *Scaler) of(o object) []*live {
	all, _ := s.peers.Load(o)
	peers, _ := all.([]*live)
	return peers
}

// stands reports whether the ScaledObject declares the trigger as it is now.
func (l *live) stands() bool { return l.declared.Load() }

// standing leaves out the triggers that a ScaledObject no longer declares, and that are
// kept for a while: beside those that it does they have no say.
func standing[T any](all []T, stands func(T) bool) []T {
	if !slices.ContainsFunc(all, stands) {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(t T) bool { return !stands(t) })
}

// leads has those that follow the trigger's workload evaluated, where its decision
// has become another.
func (l *live) leads(before, now *answer) {
	w := l.workload
	if w == nil || now.decision == nil {
		return
	}
	if before != nil && before.decision != nil && before.decision.Replicas == now.decision.Replicas && before.decision.Active == now.decision.Active {
		return
	}
	l.scaler.tellFollowers(l)
}

// tellFollowers has those that follow the trigger's workload evaluated.
func (s *Scaler) tellFollowers(l *live) {
	if a := l.answer.Load(); a.workload != nil {
		for _, f := range s.followers(l.namespace, a.workload.Name) {
			s.wake(f, 0)
		}
	}
}

func (s *Scaler) followers(namespace, name string) []*live {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*live, 0, len(s.following[object{namespace, name}]))
	for l := range s.following[object{namespace, name}] {
		all = append(all, l)
	}
	return all
}

// cycle is an error where the trigger's leaders lead back to its own workload. One that
// has a load of its own is decided by that then, for the cycle may be another's doing.
func (l *live) cycle() error {
	if l.trigger.Follow == nil || l.workload == nil {
		return nil
	}
	if way := l.leadsBack(l.trigger.Follow, []string{l.workload.Name}, map[string]bool{}); way != nil {
		return fmt.Errorf("%w: follow: %q; a workload cannot follow itself: %s", errMetadata, l.trigger.Follow.String(), strings.Join(way, " → "))
	}
	return nil
}

// leadsBack is the way on which a leader leads back to where the way begins, by any of
// its triggers; nil where none does. Another's cycle is theirs, who are told.
func (l *live) leadsBack(next *trigger.Follow, way []string, seen map[string]bool) []string {
	name := strings.ToLower(next.String())
	if seen[name] {
		return nil
	}
	seen[name] = true
	way = append(slices.Clone(way), next.Name)
	if next.Name == way[0] && (next.Kind == "" || strings.EqualFold(next.Kind, l.workload.Kind)) {
		return way
	}
	w, err := l.scaler.opts.Cluster.Leader(l.namespace, next.Kind, next.Name)
	if err != nil || w.ScaledObject == "" {
		return nil
	}
	for _, p := range standing(l.scaler.of(object{l.namespace, w.ScaledObject}), (*live).stands) {
		if f := p.trigger.Follow; f != nil {
			if back := l.leadsBack(f, way, seen); back != nil {
				return back
			}
		}
	}
	return nil
}

// unasked is the source of a trigger that its leader alone sizes: it has no
// queries, and its pods are not read.
type unasked struct{}

func (unasked) follow(bool)                           {}
func (unasked) pods(time.Time) ([]decision.Pod, bool) { return nil, true }
func (unasked) close()                                {}

func (unasked) ask(context.Context, string, *metricsource.Query, time.Time) (metricsource.Result, decision.Reading) {
	return metricsource.Result{}, decision.Reading{}
}
