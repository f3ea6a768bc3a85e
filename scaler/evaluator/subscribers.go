package evaluator

import (
	"fmt"
	"sync"
	"time"

	"github.com/inference-scaler/inference-scaler/scaler/decision"
)

// subscriber acts on the decisions of one trigger. It is called in their order, under
// the lock of the evaluation, and must be quick.
type subscriber interface {
	published(before, now *Answer)
}

// claims passes what a decision asks for to the broker of GPUs.
type claims struct{ *Trigger }

func (c claims) published(_, now *Answer) {
	if now.Err == nil {
		c.claimant.Set(now.Decision, c.declared.Load())
	}
}

// followers wakes the triggers that follow the workload when its size changes.
type followers struct{ *Trigger }

func (f followers) published(before, now *Answer) {
	if now.Workload == nil || now.Decision == nil {
		return
	}
	if before.Decision == nil || before.Decision.Replicas != now.Decision.Replicas || before.Decision.Active != now.Decision.Active {
		f.evaluator.wakeFollowers(f.Trigger)
	}
}

// eventInterval is how often the recorder gets a fault that lasts. Of several scalers
// one writes events, and which one may change meanwhile; the recorder does not write the
// same event again too soon.
const eventInterval = time.Minute

// faults logs faults when they begin, and records them on the ScaledObject for as long
// as they last.
type faults struct {
	trigger  *Trigger
	recorded map[decision.FaultKind]time.Time
}

func (f *faults) published(before, now *Answer) {
	if now.Decision == nil {
		return
	}
	had := map[decision.FaultKind]bool{}
	if before.Decision != nil {
		for _, fault := range before.Decision.Faults {
			had[fault.Kind] = true
		}
	}
	if f.recorded == nil {
		f.recorded = map[decision.FaultKind]time.Time{}
	}
	t := f.trigger
	opts := &t.evaluator.opts
	for _, fault := range now.Decision.Faults {
		if !had[fault.Kind] {
			opts.Logger.Warn("fault", append(t.attributes(), "kind", string(fault.Kind), "fault", fault.Text)...)
		}
		if at, ok := f.recorded[fault.Kind]; opts.Recorder != nil && (!ok || now.At.Sub(at) >= eventInterval) {
			f.recorded[fault.Kind] = now.At
			opts.Recorder.Event(t.object.Namespace, t.object.Name, string(fault.Kind), fault.Text, true)
		}
	}
}

// capacityEvents records on the ScaledObject that capacity limits it: when that begins,
// when the limit changes, and when it ends; at most once a minute, because in a crowded
// cluster the number changes all the time.
type capacityEvents struct {
	trigger  *Trigger
	limited  bool
	replicas int
	at       time.Time
}

func (c *capacityEvents) published(_, now *Answer) {
	if now.Decision == nil {
		return
	}
	limited, capacity := now.Decision.Limited, now.Decision.Input.Capacity
	if limited == c.limited && (!limited || capacity.Replicas == c.replicas) || !c.at.IsZero() && now.At.Sub(c.at) < eventInterval {
		return
	}
	c.limited, c.replicas, c.at = limited, capacity.Replicas, now.At
	reason, note := "CapacityLimited", fmt.Sprintf("limited to %d replicas: %s", capacity.Replicas, capacity.Why)
	if !limited {
		reason, note = "CapacityAvailable", "no longer limited by capacity"
	}
	t := c.trigger
	t.evaluator.opts.Logger.Info(note, append(t.attributes(), "reason", reason)...)
	if recorder := t.evaluator.opts.Recorder; recorder != nil {
		recorder.Event(t.object.Namespace, t.object.Name, reason, note, limited)
	}
}

// streams are those that watch a trigger. Its methods are safe for concurrent use.
type streams struct {
	mu    sync.Mutex
	open  map[chan struct{}]struct{}
	ended bool
}

func newStreams() *streams { return &streams{open: map[chan struct{}]struct{}{}} }

// published notifies the streams of what they send, or wait for. One that has not taken
// the last message yet finds all of it when it does.
func (s *streams) published(before, now *Answer) {
	if now.Activations == before.Activations && now.Active() == before.Active() && now.Replicas() == before.Replicas() && now.Paused() == before.Paused() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for ch := range s.open {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

func (s *streams) add() chan struct{} {
	ch := make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		close(ch)
		return ch
	}
	s.open[ch] = struct{}{}
	return ch
}

func (s *streams) remove(ch chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, ch)
}

func (s *streams) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// end ends the streams of a trigger that is closed.
func (s *streams) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for ch := range s.open {
		close(ch)
	}
	clear(s.open)
}
