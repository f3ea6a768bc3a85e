package scaler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/inference-scaler/inference-scaler/metricsource"
	"github.com/inference-scaler/inference-scaler/metricsource/scrape"
	"github.com/inference-scaler/inference-scaler/scaler/decision"
	"github.com/inference-scaler/inference-scaler/scaler/trigger"
)

// maxTimeout bounds a reading whatever a trigger says: a target that hangs takes
// a place that others wait for.
const maxTimeout = 5 * time.Second

// live is a trigger at work.
type live struct {
	object
	scaler   *Scaler
	key      string
	label    string
	opened   time.Time
	metadata map[string]string
	trigger  *trigger.Trigger
	window   *metricsource.Window
	group    *scrape.Group
	upstream *upstream

	answer   atomic.Pointer[answer] // what the calls read
	used     atomic.Int64           // when it was called last, in ns since the epoch
	declared atomic.Bool            // by the ScaledObject
	stale    atomic.Bool            // the cluster has news of the workload

	mu       sync.Mutex // of an evaluation
	memory   decision.Memory
	workload *metricsource.Workload
	ownIPs   atomic.Pointer[map[netip.Addr]bool] // of the workload's pods
	told     map[decision.FaultKind]time.Time    // when an event told of such a fault
	gone     map[string]bool                     // pods, by UID, that are terminating and silent
	closed   bool
	tried    bool          // every target, at least once
	settled  chan struct{} // closed once every target has been tried

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
	workload *metricsource.Workload
	signals  []signal
	edges    uint64        // how often the workload became active
	took     time.Duration // to come to it
}

// signal is one of the trigger's queries, and what it yielded.
type signal struct {
	name   string
	query  *metricsource.Query
	result metricsource.Result
	err    error
}

func newLive(s *Scaler, o object, key string, metadata map[string]string, t *trigger.Trigger) *live {
	l := &live{
		object:   o,
		scaler:   s,
		key:      key,
		label:    label(t.MetricName, key),
		opened:   time.Now(),
		told:     map[decision.FaultKind]time.Time{},
		metadata: metadata,
		trigger:  t,
		window:   metricsource.NewWindow(t.Want.Lookback()),
		gone:     map[string]bool{},
		settled:  make(chan struct{}),
		watching: map[chan struct{}]struct{}{},
	}
	l.used.Store(time.Now().UnixNano())
	l.stale.Store(true)
	l.group = s.opts.Scraper.Open(scrape.Config{
		Interval: t.Interval,
		Timeout:  min(t.StaleAfter/2, maxTimeout),
		Want:     t.Want,
		Window:   l.window,
		Permit:   l.permit,
		OnRead:   func() { s.wake(l, gather) },
	})
	l.upstream = l.openUpstream()
	return l
}

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
	l.group.Close()
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
		if !d.Until.IsZero() {
			l.scaler.evaluations.By(l, begun.Add(d.Until.Sub(begun.Round(0))))
		}
	}
	a.took = time.Since(begun)
	l.publish(before, a)
	l.settle()
	l.scaler.metrics.evaluations.Observe(a.took.Seconds())
	l.report(before, a)
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
			if errors.Is(err, metricsource.ErrNotFound) {
				// Its pods' addresses may be another workload's next.
				l.ownIPs.Store(nil)
				l.group.Set(nil)
			}
			return err
		}
		l.workload = &w
		l.ownIPs.Store(addresses(w.Pods))
		l.forget(w.Pods)
	}
	l.group.Set(l.targets())
	l.upstream.follow(l)
	return nil
}

// forget drops the marks of pods that are no more.
func (l *live) forget(pods []metricsource.Pod) {
	maps.DeleteFunc(l.gone, func(uid string, _ bool) bool {
		return !slices.ContainsFunc(pods, func(p metricsource.Pod) bool { return p.UID == uid })
	})
}

// targets are what is read for this trigger: its endpoints, else the pods that
// have an address and have not come to their end.
func (l *live) targets() []scrape.Target {
	job := l.name
	if l.workload != nil {
		job = l.workload.Name
	}
	var all []scrape.Target
	add := func(name, uid, address string, ready bool) {
		all = append(all, scrape.Target{
			Name:   name,
			UID:    uid,
			URL:    l.trigger.Scheme + "://" + address + l.trigger.Path,
			Ready:  ready,
			Labels: labels.FromStrings("namespace", l.namespace, "job", job, "pod", name, "instance", address),
		})
	}
	for _, e := range l.trigger.Endpoints {
		add(e, "", e, true)
	}
	if len(all) > 0 || l.workload == nil {
		return all
	}
	for _, p := range l.workload.Pods {
		if p.IP != "" && !p.Finished() && !l.gone[p.UID] {
			add(p.Name, p.UID, net.JoinHostPort(p.IP, strconv.Itoa(l.trigger.Port)), p.Ready)
		}
	}
	return all
}

// permit refuses to dial what the author of the metadata could not reach: with
// Kubernetes, anything but the workload's own pods and what the operator of this
// scaler allows; ever, the addresses of this machine's link.
func (l *live) permit(addr netip.Addr) error {
	if err := neverRead(addr); err != nil {
		return err
	}
	if own := l.ownIPs.Load(); l.scaler.opts.Cluster == nil || own != nil && (*own)[addr] || l.allowed(addr) {
		return nil
	}
	return fmt.Errorf("address %s is refused: it is no pod of this workload, and --upstream-allow does not name it", addr)
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

func addresses(pods []metricsource.Pod) *map[netip.Addr]bool {
	own := make(map[netip.Addr]bool, len(pods))
	for _, p := range pods {
		if addr, err := netip.ParseAddr(p.IP); err == nil && !p.Finished() {
			own[addr.Unmap()] = true
		}
	}
	return &own
}

func active(a *answer) bool { return a != nil && a.decision != nil && a.decision.Active }

func replicasOf(a *answer) int {
	if a == nil || a.decision == nil {
		return -1
	}
	return a.decision.Input.Replicas
}

func paused(a *answer) bool { return a != nil && a.workload != nil && a.workload.Paused }
