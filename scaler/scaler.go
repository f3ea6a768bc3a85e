package scaler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	"github.com/inference-scaler/inference-scaler/scaler/credentials"

	"github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	promsource "github.com/inference-scaler/inference-scaler/metricsource/prometheus"
	"github.com/inference-scaler/inference-scaler/metricsource/push"
	"github.com/inference-scaler/inference-scaler/metricsource/schedule"
	"github.com/inference-scaler/inference-scaler/metricsource/scrape"
)

const (
	// minGap is the least time between two evaluations of a trigger.
	minGap = 100 * time.Millisecond
	// idleShare is how many times as long as an evaluation took the next one waits at
	// zero replicas, where each report may be the first request.
	idleShare = 10
	// busyShare is that for one that took longer than costly, which no honest one does on
	// a machine that has time: it does not keep the rest waiting.
	busyShare = 4
	costly    = time.Second
	maxGap    = time.Minute
	// gather lets the readings of one tick come in before they are judged together.
	gather = 5 * time.Millisecond
	// firstPass is how long readiness waits for targets that do not answer.
	firstPass = 10 * time.Second
)

// Cluster is what the scaler asks of Kubernetes, answered from memory. The
// methods that may fail do so with cluster.ErrNotFound or ErrNotSynced.
type Cluster interface {
	Synced() bool
	ScaledObjects() []cluster.ScaledObject
	ScaledObject(namespace, name string) (cluster.ScaledObject, error)
	Workload(namespace, scaledObject string) (cluster.Workload, error)
	// Endpoints are those of a Service's port that are pods of the namespace; of
	// their changes, Changed tells the ScaledObjects that name the Service.
	Endpoints(namespace, service, port string) ([]cluster.Endpoint, error)
	HasPod(namespace string, addr netip.Addr) bool
	// Leader is the workload of that name, and kind if that is not empty, which need
	// not be a ScaledObject's; of its changes, Changed tells those that follow it.
	Leader(namespace, kind, name string) (cluster.Workload, error)
	// Inventory is what the nodes offer and hold, and the workloads that want of it, all
	// of one moment; of its changes, InventoryChanged is told.
	Inventory() (*cluster.Inventory, error)
}

// Recorder tells the people who look at a ScaledObject what is wrong with it.
type Recorder interface {
	Event(namespace, scaledObject, reason, note string, warning bool)
}

// Options of a Scaler.
type Options struct {
	// Cluster is nil without Kubernetes: then triggers read their endpoints alone.
	Cluster Cluster
	// Secrets may be nil without Kubernetes.
	Secrets credentials.Secrets
	// FixedNodes: no autoscaler adds nodes, whatever the cluster looks like.
	FixedNodes bool
	// Scraper reads the targets. It must be running for answers to be fresh.
	Scraper *scrape.Scraper
	// Prometheus asks the servers that triggers name. It must be running for answers to be fresh.
	Prometheus *promsource.Poller
	// Reports are demand that is pushed; nil where none can be.
	Reports *push.Store
	// Allow are the addresses that metadata may name though they are no pod of
	// the trigger's workload. Without a Cluster all are allowed but link-local ones.
	Allow []netip.Prefix
	// Recorder, Registerer and Logger may be nil.
	Recorder   Recorder
	Registerer prometheus.Registerer
	Logger     *slog.Logger
}

// Scaler implements KEDA's external scaler. Its methods are safe for concurrent use.
type Scaler struct {
	externalscaler.UnimplementedExternalScalerServer
	opts        Options
	metrics     *metrics
	evaluations *schedule.Queue[*live]
	rooms       *rooms
	closing     chan struct{}
	closeOnce   sync.Once

	triggers sync.Map // of *live by hash: read by every call, without a lock
	peers    sync.Map // of []*live by object, immutable: what byObject holds

	mu       sync.Mutex
	byObject map[object]map[string]*live
	// following are the triggers that follow a workload, by its namespace and name.
	following map[object]map[*live]struct{}
	count     int
	// undeclared is how many of them no ScaledObject declares.
	undeclared int
	syncedAt   time.Time

	ready     atomic.Bool
	caughtUp  sync.Once  // with what the cluster declared before it was synced
	declaring sync.Mutex // one word of the cluster is heeded at a time, and the newest last
}

// object names a ScaledObject.
type object struct{ namespace, name string }

// New returns a Scaler that evaluates once Run is called.
func New(opts Options) *Scaler {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Scaler{
		opts:        opts,
		evaluations: schedule.New[*live](),
		rooms:       newRooms(opts.Cluster, opts.FixedNodes),
		closing:     make(chan struct{}),
		byObject:    map[object]map[string]*live{},
		following:   map[object]map[*live]struct{}{},
	}
	s.metrics = newMetrics(opts.Registerer, s)
	return s
}

// Run evaluates triggers as their evidence changes, and forgets those that are
// not called for any more, until ctx ends.
func (s *Scaler) Run(ctx context.Context) error {
	slots := semaphore.NewWeighted(int64(2 * runtime.GOMAXPROCS(0)))
	var g errgroup.Group
	g.Go(func() error {
		s.evaluations.Run(ctx, func(l *live) {
			if earliest := l.earliest(); time.Now().Before(earliest) { // it was evaluated meanwhile
				s.evaluations.By(l, earliest)
				return
			}
			if slots.Acquire(ctx, 1) == nil {
				l.evaluate(ctx)
				slots.Release(1)
			}
		})
		return nil
	})
	g.Go(func() error {
		s.rooms.run(ctx, s.wake)
		return nil
	})
	g.Go(func() error {
		sweep := time.NewTicker(sweepInterval)
		defer sweep.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case now := <-sweep.C:
				s.sweep(now)
			}
		}
	})
	return g.Wait()
}

// CloseStreams ends all streams without an error, new ones too: KEDA comes back
// soon after a clean end, and late after any other.
func (s *Scaler) CloseStreams() { s.closeOnce.Do(func() { close(s.closing) }) }

// Ready returns nil once the cluster is known, what its nodes hold too, and every
// trigger that it declares has been read, or has failed to be, for the first time; after
// firstPass it waits for no more than the cluster.
func (s *Scaler) Ready() error {
	if s.ready.Load() {
		return nil
	}
	if c := s.opts.Cluster; c != nil {
		if !c.Synced() {
			return cluster.ErrNotSynced
		}
		s.caughtUp.Do(func() { // whatever comes later is told of by Changed
			for _, so := range c.ScaledObjects() {
				s.declare(object{so.Namespace, so.Name})
			}
		})
	}
	uncounted := s.rooms.uncounted()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.syncedAt.IsZero() {
		s.syncedAt = time.Now()
	}
	unread := 0
	s.each(func(l *live) {
		if !l.isSettled() {
			unread++
		}
	})
	switch waits := time.Since(s.syncedAt) < firstPass; {
	case uncounted && waits:
		return fmt.Errorf("what the nodes hold: %w", cluster.ErrNotSynced)
	case unread > 0 && waits:
		return fmt.Errorf("%d of %d triggers have not been read yet", unread, s.count)
	}
	s.ready.Store(true)
	return nil
}

// each calls f for every live trigger; s.mu must be held.
func (s *Scaler) each(f func(*live)) {
	for _, triggers := range s.byObject {
		for _, l := range triggers {
			f(l)
		}
	}
}

// all returns the live triggers.
func (s *Scaler) all() []*live {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*live, 0, s.count)
	s.each(func(l *live) { out = append(out, l) })
	return out
}

// Changed takes note that the cluster's word on a ScaledObject, or on its
// workload, may have changed. It is quick.
func (s *Scaler) Changed(namespace, name string) {
	s.declare(object{namespace, name})
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.byObject[object{namespace, name}] {
		l.stale.Store(true)
		s.wake(l, 0)
	}
}

// InventoryChanged takes note that the cluster's nodes, or what is held of them, may
// have changed. It is quick.
func (s *Scaler) InventoryChanged() { s.rooms.changed() }

// declare keeps live what the ScaledObject declares, so that it is warm before
// KEDA calls, and lets go of what it does not.
func (s *Scaler) declare(o object) {
	s.declaring.Lock()
	defer s.declaring.Unlock()
	so, err := s.opts.Cluster.ScaledObject(o.namespace, o.name)
	if err != nil && !errors.Is(err, cluster.ErrNotFound) {
		return // not known is not gone
	}
	for _, t := range so.Triggers {
		// Metadata that do not parse may be another scaler's. If they are ours, the
		// error goes to KEDA's call.
		_, _ = s.open(o, t.Metadata, true)
	}
	var gone, news []*live
	s.mu.Lock()
	for _, l := range s.byObject[o] {
		stood := l.stands()
		s.markDeclared(l, declares(so.Triggers, l.metadata))
		if l.stands() != stood {
			news = append(news, l)
		}
		if err != nil {
			gone = append(gone, l)
			s.unlink(l)
		}
	}
	s.mu.Unlock()
	for _, l := range gone {
		l.close()
	}
	for _, l := range slices.Concat(gone, news) {
		s.tellFollowers(l)
	}
}

// wake has a trigger evaluated after the given time, or later if it was
// evaluated only just now.
func (s *Scaler) wake(l *live, after time.Duration) {
	at := time.Now().Add(after)
	if earliest := l.earliest(); at.Before(earliest) {
		at = earliest
	}
	s.evaluations.By(l, at)
}

// earliest is when a trigger may be evaluated next. At zero replicas nothing is worth
// waiting for, while that takes no more than a small share of the time; nor may what is
// costly take more, wherever it stands.
func (l *live) earliest() time.Time {
	a := l.answer.Load()
	switch {
	case a == nil:
		return time.Time{}
	case a.took > costly:
		return a.at.Add(a.took + min(busyShare*a.took, maxGap))
	case replicasOf(a) == 0 && !a.decision.Active:
		return a.at.Add(min(minGap, idleShare*a.took))
	}
	return a.at.Add(minGap)
}
