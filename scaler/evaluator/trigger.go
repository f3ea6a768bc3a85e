package evaluator

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	"github.com/inference-scaler/inference-scaler/scaler/capacity/broker"
	"github.com/inference-scaler/inference-scaler/scaler/decision"
	"github.com/inference-scaler/inference-scaler/scaler/evidence"
	"github.com/inference-scaler/inference-scaler/scaler/explain"
	"github.com/inference-scaler/inference-scaler/scaler/trigger"
)

// cycleInterval is how often a trigger in a cycle of followers looks again. Only direct
// followers of a workload are woken by its changes, so the end of a cycle elsewhere
// would go unnoticed.
const cycleInterval = 15 * time.Second

// Trigger is an open trigger. Its methods are safe for concurrent use.
type Trigger struct {
	identity
	evaluator *Evaluator
	spec      *trigger.Trigger
	life      context.Context // until close
	end       context.CancelFunc

	answer   atomic.Pointer[Answer]
	used     atomic.Int64 // the last call, in ns since the epoch
	declared atomic.Bool  // by the ScaledObject
	settled  chan struct{}
	streams  *streams

	mu          sync.Mutex // held by an evaluation
	sources     *sources
	claimant    *broker.Claimant
	memory      decision.Memory
	results     evidence.Results
	subscribers []subscriber
}

// identity distinguishes a trigger from others.
type identity struct {
	object   cluster.NamespacedName // the ScaledObject
	metadata map[string]string
	key      string // of both
	label    string // in metrics and explanations
}

// attributes are the trigger's in a log.
func (i identity) attributes() []any {
	return []any{"namespace", i.object.Namespace, "scaledObject", i.object.Name, "trigger", i.label}
}

// Answer is the outcome of one evaluation. It is immutable.
type Answer struct {
	At time.Time
	// Decision is the last one that could be made; nil if none ever could.
	Decision *decision.Decision
	// Err says why none could be made now.
	Err      error
	Workload *cluster.Workload // nil without Kubernetes
	Signals  []evidence.Signal
	// Activations is how often the workload became active.
	Activations uint64
	took        time.Duration
}

// Active reports whether the workload must not sleep. It is safe on nil.
func (a *Answer) Active() bool { return a != nil && a.Decision != nil && a.Decision.Active }

// Paused reports whether KEDA does not scale the workload. It is safe on nil.
func (a *Answer) Paused() bool { return a != nil && a.Workload != nil && a.Workload.Paused }

// Replicas are the workload's present ones; -1 if there was no decision. It is safe on nil.
func (a *Answer) Replicas() int {
	if a == nil || a.Decision == nil {
		return -1
	}
	return a.Decision.Input.Replicas
}

func newTrigger(e *Evaluator, o cluster.NamespacedName, key string, metadata map[string]string, spec *trigger.Trigger, declared bool) *Trigger {
	t := &Trigger{
		identity:  identity{object: o, metadata: metadata, key: key},
		evaluator: e,
		spec:      spec,
		settled:   make(chan struct{}),
		streams:   newStreams(),
	}
	t.life, t.end = context.WithCancel(context.Background())
	t.declared.Store(declared)
	t.used.Store(time.Now().UnixNano())
	t.claimant = e.broker.Open(o, spec.Capacity, func(after time.Duration) { e.evaluateSoon(t, after) })
	t.sources = openSources(e.opts, o, spec, func(after time.Duration) { e.evaluateSoon(t, after) })
	t.subscribers = []subscriber{claims{t}, &faults{trigger: t}, &capacityEvents{trigger: t}, followers{t}, t.streams}
	return t
}

// Spec is what the trigger's metadata ask for.
func (t *Trigger) Spec() *trigger.Trigger { return t.spec }

// Answer returns the present answer. A decision that cannot be renewed applies until
// there is a newer one. The error wraps ErrUnknown: there was none ever.
func (t *Trigger) Answer() (*Answer, error) {
	a := t.answer.Load()
	if a.Decision == nil {
		return nil, fmt.Errorf("%w of %s: %w", ErrUnknown, t.object, a.Err)
	}
	return a, nil
}

// Watch returns a channel that gets a message when the answer changes in a way that
// KEDA must learn. It is closed with the trigger. stop ends the messages.
func (t *Trigger) Watch() (changes <-chan struct{}, stop func()) {
	ch := t.streams.add()
	return ch, func() {
		t.streams.remove(ch)
		t.used.Store(time.Now().UnixNano())
	}
}

// Last returns the last answer, with a decision or without one.
func (t *Trigger) Last() *Answer { return t.answer.Load() }

// Settled is closed once every source has been read, or has failed to be.
func (t *Trigger) Settled() <-chan struct{} { return t.settled }

func (t *Trigger) isSettled() bool {
	select {
	case <-t.settled:
		return true
	default:
		return false
	}
}

// start points the sources at the workload, and registers the trigger. Its first answer is
// that of a trigger of which nothing has been read. Capacity is left to the first
// evaluation: an informer may be waiting.
func (t *Trigger) start(register func(*Trigger) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := &Answer{At: time.Now()}
	if a.Err = t.sources.update(t.findCycle); a.Err == nil {
		o := t.sources.observe(a.At)
		o.Leader = t.leader(false)
		d, _ := decision.Decide(evidence.Known(t.spec, o, a.At), t.memory)
		a.Decision = &d
	}
	t.store(nil, a)
	return register(t)
}

// evaluate observes the sources, gathers the evidence, decides and publishes.
func (t *Trigger) evaluate(ctx context.Context) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.life.Err() != nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(t.life, cancel)()

	before := t.answer.Load()
	now := time.Now()
	a := &Answer{At: now, Decision: before.Decision, Signals: before.Signals, Activations: before.Activations}
	var o evidence.Observation
	if o, a.Err = t.observe(now); a.Err == nil {
		in, signals := evidence.Gather(ctx, t.spec, o, &t.results, now)
		d, memory := decision.Decide(in, t.memory)
		t.memory, a.Decision, a.Signals = memory, &d, signals
	}
	if t.life.Err() != nil {
		return // closed meanwhile: the queries were cancelled
	}
	a.took = time.Since(now)
	t.scheduleNext(a)
	t.publish(before, a)
}

// observe points the sources at the present workload, and returns what they show.
func (t *Trigger) observe(now time.Time) (evidence.Observation, error) {
	if err := t.sources.update(t.findCycle); err != nil {
		return evidence.Observation{}, err
	}
	o := t.sources.observe(now)
	o.Leader = t.leader(true)
	o.Capacity = t.claimant.Capacity(o.Workload)
	return o, nil
}

// publish makes the answer the present one, and calls the subscribers.
func (t *Trigger) publish(before, a *Answer) {
	t.store(before, a)
	if t.sources.tried && !t.isSettled() {
		close(t.settled)
	}
	t.evaluator.metrics.evaluations.Observe(a.took.Seconds())
	for _, s := range t.subscribers {
		s.published(before, a)
	}
}

func (t *Trigger) store(before, a *Answer) {
	a.Workload = t.sources.workload
	if a.Active() && !before.Active() {
		a.Activations++
	}
	t.answer.Store(a)
}

// scheduleNext schedules the evaluation that is due although no evidence changes.
func (t *Trigger) scheduleNext(a *Answer) {
	if d := a.Decision; a.Err == nil && !d.Until.IsZero() {
		// Until is wall time. The sum is in monotonic time, which a set clock does not change.
		t.evaluator.queue.By(t, a.At.Add(d.Until.Sub(a.At.Round(0))))
	}
	if t.sources.cycle != nil {
		t.evaluator.queue.By(t, a.At.Add(cycleInterval))
	}
}

// earliest is when the trigger may be evaluated next. At zero replicas a request may be
// waiting, and the gap is short unless evaluations are costly.
func (t *Trigger) earliest() time.Time {
	a := t.answer.Load()
	switch {
	case a == nil:
		return time.Time{}
	case a.took > costly:
		return a.At.Add(a.took + min(busyShare*a.took, maxGap))
	case a.Replicas() == 0 && !a.Active():
		return a.At.Add(min(minGap, idleShare*a.took))
	}
	return a.At.Add(minGap)
}

// close ends an evaluation under way, the sources and the streams. It may be called once.
func (t *Trigger) close() {
	t.end()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.evaluator.queue.Remove(t)
	t.claimant.Close()
	t.sources.close()
	t.streams.end()
}

// explanation describes the present answer.
func (t *Trigger) explanation(now time.Time) explain.Explanation {
	a := t.answer.Load()
	return explain.Of(explain.Subject{
		Namespace: t.object.Namespace, ScaledObject: t.object.Name, Label: t.label, Trigger: t.spec,
		Decision: a.Decision, Err: a.Err, Workload: a.Workload, Signals: a.Signals,
	}, now)
}
