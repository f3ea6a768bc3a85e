package scaler

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	"github.com/inference-scaler/inference-scaler/metricsource"
	"github.com/inference-scaler/inference-scaler/scaler/credentials"
	"github.com/inference-scaler/inference-scaler/scaler/decision"
	"github.com/inference-scaler/inference-scaler/scaler/trigger"
)

// maxTimeout bounds a reading whatever a trigger says: a target that hangs takes
// a place that others wait for.
const maxTimeout = 5 * time.Second

// cycleInterval is how often a follower of itself looks whether it still is: only those
// that follow a workload are told of its news, and not those that follow these.
const cycleInterval = 15 * time.Second

// live is a trigger at work.
type live struct {
	object
	scaler      *Scaler
	key         string
	label       string
	opened      time.Time
	metadata    map[string]string
	trigger     *trigger.Trigger
	source      source
	upstream    *upstream
	credentials *credentials.Source

	answer   atomic.Pointer[answer] // what the calls read
	used     atomic.Int64           // when it was called last, in ns since the epoch
	declared atomic.Bool            // by the ScaledObject
	stale    atomic.Bool            // the cluster has news of the workload

	mu       sync.Mutex // of an evaluation
	memory   decision.Memory
	workload *cluster.Workload
	cyclic   error                            // its leaders lead back to it
	told     map[decision.FaultKind]time.Time // when an event told of such a fault
	// toldCapacity is what an event last told of the room there is.
	toldCapacity toldCapacity
	closed       bool
	tried        bool          // all there is to read, at least once
	settled      chan struct{} // closed once every target has been tried

	watcherMu sync.Mutex
	watching  map[chan struct{}]struct{}
	ended     bool
}

// answer is what one evaluation came to. It is immutable.
type answer struct {
	at time.Time
	// decision is the last one that could be made; nil where none ever could.
	decision *decision.Decision
	// err says why none could be made now.
	err      error
	workload *cluster.Workload
	signals  []signal
	edges    uint64        // how often the workload became active
	took     time.Duration // to come to it
}

// signal is one of the trigger's queries, and what it yielded.
type signal struct {
	name   string
	query  *metricsource.Query
	result metricsource.Result
	err    string
}

func newLive(s *Scaler, o object, key string, metadata map[string]string, t *trigger.Trigger) *live {
	l := &live{
		object:   o,
		scaler:   s,
		key:      key,
		opened:   time.Now(),
		told:     map[decision.FaultKind]time.Time{},
		metadata: metadata,
		trigger:  t,
		settled:  make(chan struct{}),
		watching: map[chan struct{}]struct{}{},
	}
	l.used.Store(time.Now().UnixNano())
	l.stale.Store(true)
	l.credentials = credentials.Open(s.opts.Secrets, o.namespace, t.AuthSecret, t.CASecret)
	l.source = l.openSource()
	l.upstream = l.openUpstream()
	return l
}

// timeout bounds what is read or asked for this trigger.
func (l *live) timeout() time.Duration { return min(l.trigger.StaleAfter/2, maxTimeout) }

// assume publishes the answer of a trigger of which nothing has been read.
func (l *live) assume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := &answer{at: time.Now()}
	if a.err = l.observe(); a.err == nil {
		d, _ := decision.Decide(l.unread(a.at), l.memory)
		a.decision = &d
	}
	l.publish(nil, a)
}

// publish makes the answer the one that the calls read.
func (l *live) publish(before, a *answer) {
	a.workload = l.workload
	if active(a) && !active(before) {
		a.edges++
	}
	l.answer.Store(a)
}

func (l *live) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.scaler.evaluations.Remove(l)
	l.scaler.rooms.leave(l)
	l.source.close()
	l.upstream.close()
	l.endWatching()
}

// evaluate looks at all there is now, decides, and publishes the answer.
func (l *live) evaluate(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	begun := time.Now()
	before := l.answer.Load()
	a := &answer{at: begun}
	if before != nil {
		a.decision, a.signals, a.edges = before.decision, before.signals, before.edges
	}
	if a.err = l.observe(); a.err == nil {
		in := l.input(ctx, a)
		d, memory := decision.Decide(in, l.memory)
		l.memory, a.decision = memory, &d
		l.scaler.rooms.claim(l, &d)
		if !d.Until.IsZero() {
			l.scaler.evaluations.By(l, begun.Add(d.Until.Sub(begun.Round(0))))
		}
	}
	if l.cyclic != nil {
		l.scaler.evaluations.By(l, begun.Add(cycleInterval))
	}
	a.took = time.Since(begun)
	l.publish(before, a)
	l.settle()
	l.scaler.metrics.evaluations.Observe(a.took.Seconds())
	l.report(before, a)
	l.leads(before, a)
	if before == nil || a.edges != before.edges || active(a) != active(before) || replicasOf(a) != replicasOf(before) || paused(a) != paused(before) {
		l.notify()
	}
}

// observe asks the cluster for the workload where it has news, and has its pods
// read.
func (l *live) observe() error {
	if !l.stale.Swap(false) {
		return nil
	}
	if l.scaler.opts.Cluster != nil {
		w, err := l.scaler.opts.Cluster.Workload(l.namespace, l.name)
		if err != nil {
			l.stale.Store(true)
			if errors.Is(err, cluster.ErrNotFound) {
				l.source.follow(true)
			}
			return err
		}
		l.workload = &w
	}
	if l.cyclic = l.cycle(); l.cyclic != nil {
		l.stale.Store(true)
		if l.trigger.Load == nil {
			return l.cyclic
		}
	}
	l.source.follow(false)
	l.upstream.follow(l)
	return nil
}

func neverRead(addr netip.Addr) error {
	if addr.IsLinkLocalUnicast() || addr.IsMulticast() || addr.IsUnspecified() {
		return fmt.Errorf("address %s is refused: link-local, multicast and unspecified addresses are never read", addr)
	}
	return nil
}

// allowed reports whether the operator of this scaler allows the address.
func (l *live) allowed(addr netip.Addr) bool {
	return slices.ContainsFunc(l.scaler.opts.Allow, func(p netip.Prefix) bool { return p.Contains(addr) })
}

func active(a *answer) bool { return a != nil && a.decision != nil && a.decision.Active }

func replicasOf(a *answer) int {
	if a == nil || a.decision == nil {
		return -1
	}
	return a.decision.Input.Replicas
}

func paused(a *answer) bool { return a != nil && a.workload != nil && a.workload.Paused }
