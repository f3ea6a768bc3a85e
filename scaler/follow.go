package scaler

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

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
func (s *Scaler) capacityOf(w metricsource.Workload) trigger.Capacity {
	said := map[*live]claim{}
	if w.ScaledObject != "" {
		for _, l := range s.of(object{w.Namespace, w.ScaledObject}) {
			said[l] = claim{asks: l.trigger.Capacity, declared: l.declared.Load()}
		}
	}
	if len(said) == 0 {
		return trigger.Capacity{Mode: trigger.CapacityAuto}
	}
	return joined(standing(said))
}

// wanted is how many replicas the triggers of a ScaledObject ask for, as the HPA
// takes them: the most, within the bounds. 0 where none has decided.
func (s *Scaler) wanted(o object, w metricsource.Workload) int {
	decided, most := false, 0
	for _, l := range s.of(o) {
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
	for _, f := range l.scaler.followers(l.namespace, w.Name) {
		l.scaler.wake(f, 0)
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

// cycle refuses a trigger whose leaders lead back to its own workload.
func (l *live) cycle() error {
	if l.trigger.Follow == nil || l.workload == nil {
		return nil
	}
	way := []string{l.workload.Name}
	for next := l.trigger.Follow; next != nil; {
		way = append(way, next.Name)
		if next.Name == way[0] && (next.Kind == "" || strings.EqualFold(next.Kind, l.workload.Kind)) {
			return fmt.Errorf("%w: follow: %q; a workload cannot follow itself: %s", errMetadata, l.trigger.Follow.String(), strings.Join(way, " → "))
		}
		if slices.Contains(way[1:len(way)-1], next.Name) {
			return nil // theirs, who are told
		}
		next = l.scaler.leaderOfLeader(l.namespace, next)
	}
	return nil
}

// leaderOfLeader is whom a leader follows itself; nil where it does not.
func (s *Scaler) leaderOfLeader(namespace string, f *trigger.Follow) *trigger.Follow {
	w, err := s.opts.Cluster.Leader(namespace, f.Kind, f.Name)
	if err != nil || w.ScaledObject == "" {
		return nil
	}
	for _, l := range s.of(object{namespace, w.ScaledObject}) {
		if l.trigger.Follow != nil {
			return l.trigger.Follow
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
