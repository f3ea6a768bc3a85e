// Package evaluator keeps the triggers of all ScaledObjects evaluated: it opens their
// sources, decides as their evidence changes, and publishes each decision to what acts
// on it.
//
// The way of one number: a source writes a window and calls its OnRead or OnReport, which is
// evaluateSoon; Trigger.evaluate observes the sources, gathers the evidence, decides and
// publishes.
package evaluator

import (
	"cmp"
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

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	promsource "github.com/inference-scaler/inference-scaler/metricsource/prometheus"
	"github.com/inference-scaler/inference-scaler/metricsource/push"
	"github.com/inference-scaler/inference-scaler/metricsource/schedule"
	"github.com/inference-scaler/inference-scaler/metricsource/scrape"
	"github.com/inference-scaler/inference-scaler/scaler/capacity/broker"
	"github.com/inference-scaler/inference-scaler/scaler/credentials"
	"github.com/inference-scaler/inference-scaler/scaler/explain"
)

const (
	// minGap is the least time between two evaluations of a trigger.
	minGap = 100 * time.Millisecond
	// idleShare is how many times as long as an evaluation took the next one waits at
	// zero replicas, where each report may be the first request.
	idleShare = 10
	// An evaluation that takes longer than costly waits busyShare times as long for the
	// next one, up to maxGap, so that it does not delay other triggers.
	costly    = time.Second
	busyShare = 4
	maxGap    = time.Minute
	// batchDelay is how long the readings of one tick are collected before a decision.
	batchDelay = 5 * time.Millisecond
	// firstPass is how long readiness waits for targets that do not answer.
	firstPass = 10 * time.Second
	// sweepInterval is how often unused triggers are closed.
	sweepInterval = 15 * time.Second
)

// Errors of a call. Each is wrapped with its reason.
var (
	// ErrMetadata: the trigger's metadata are wrong, until their author changes them.
	ErrMetadata = errors.New("wrong trigger metadata")
	// ErrTooMany: a limit of open triggers is reached.
	ErrTooMany = errors.New("too many triggers")
	// ErrUnknown: nothing was ever known of the workload.
	ErrUnknown = errors.New("nothing is known yet")
)

// Cluster is what the evaluator asks of Kubernetes, answered from memory. The methods
// that may fail do so with cluster.ErrNotFound or cluster.ErrNotSynced.
type Cluster interface {
	Synced() bool
	ScaledObjects() []cluster.ScaledObject
	ScaledObject(namespace, name string) (cluster.ScaledObject, error)
	Workload(namespace, scaledObject string) (cluster.Workload, error)
	// Endpoints are those of a Service's port that are pods of the namespace. When they
	// change, Changed is called for the ScaledObjects that name the Service.
	Endpoints(namespace, service, port string) ([]cluster.Endpoint, error)
	HasPod(namespace string, addr netip.Addr) bool
	// Leader is the workload of that name, and kind if that is not empty. It need not
	// be a ScaledObject's. When it changes, Changed is called for its followers.
	Leader(namespace, kind, name string) (cluster.Workload, error)
	// Inventory is the nodes and the workloads of one moment. When it changes,
	// InventoryChanged is called.
	Inventory() (*cluster.Inventory, error)
}

// Recorder writes events on ScaledObjects.
type Recorder interface {
	Event(namespace, scaledObject, reason, note string, warning bool)
}

// Options of an Evaluator.
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
	// Reports are demand that is pushed; nil if none can be.
	Reports *push.Store
	// Allow are the addresses that metadata may name although they are no pod of the
	// trigger's workload. Without a Cluster all are allowed but link-local ones.
	Allow []netip.Prefix
	// Recorder, Registerer and Logger may be nil.
	Recorder   Recorder
	Registerer prometheus.Registerer
	Logger     *slog.Logger
}

// Evaluator evaluates triggers. Its methods are safe for concurrent use.
type Evaluator struct {
	opts     Options
	metrics  *metrics
	broker   *broker.Broker
	queue    *schedule.Queue[*Trigger]
	triggers *registry
	opening  singleflight.Group

	closing   sync.WaitGroup
	declaring sync.Mutex // one change of a ScaledObject at a time, so that the newest is last
	firstSync sync.Once  // opens what was declared before it
	syncedAt  atomic.Pointer[time.Time]
	ready     atomic.Bool
}

// New returns an Evaluator. It evaluates once Run is called.
func New(opts Options) *Evaluator {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	e := &Evaluator{opts: opts, queue: schedule.New[*Trigger](), triggers: newRegistry(opts.Cluster != nil)}
	var inventory func() (*cluster.Inventory, error)
	if opts.Cluster != nil {
		inventory = opts.Cluster.Inventory
	}
	e.broker = broker.New(inventory, opts.FixedNodes)
	e.metrics = newMetrics(opts.Registerer, e)
	return e
}

// Kubernetes reports whether there is a cluster.
func (e *Evaluator) Kubernetes() bool { return e.opts.Cluster != nil }

// Run evaluates triggers as their evidence changes, and closes those that are not used
// any more, until ctx ends.
func (e *Evaluator) Run(ctx context.Context) error {
	slots := semaphore.NewWeighted(int64(2 * runtime.GOMAXPROCS(0)))
	var g errgroup.Group
	g.Go(func() error {
		e.queue.Run(ctx, func(t *Trigger) {
			if earliest := t.earliest(); time.Now().Before(earliest) { // it was evaluated meanwhile
				e.queue.By(t, earliest)
				return
			}
			if slots.Acquire(ctx, 1) == nil {
				t.evaluate(ctx)
				slots.Release(1)
			}
		})
		return nil
	})
	g.Go(func() error {
		e.broker.Run(ctx)
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
				e.close(e.triggers.unused(now))
			}
		}
	})
	return g.Wait()
}

// Close closes all triggers. Run must have returned.
func (e *Evaluator) Close() {
	e.closing.Wait()
	for _, t := range e.triggers.all() {
		t.close()
	}
}

// evaluateSoon has a trigger evaluated after the given time, or later if it was evaluated
// only just now.
func (e *Evaluator) evaluateSoon(t *Trigger, after time.Duration) {
	at := time.Now().Add(after)
	if earliest := t.earliest(); at.Before(earliest) {
		at = earliest
	}
	e.queue.By(t, at)
}

// Changed must be called when a ScaledObject, or its workload, may have changed: by the
// informers, which it does not make wait for evaluations or plans.
func (e *Evaluator) Changed(namespace, name string) {
	o := cluster.NamespacedName{Namespace: namespace, Name: name}
	e.declare(o)
	for _, t := range e.triggers.of(o) {
		t.sources.changed.Store(true)
		e.evaluateSoon(t, 0)
	}
}

// InventoryChanged must be called when the nodes, or what they hold, may have changed.
func (e *Evaluator) InventoryChanged() { e.broker.InventoryChanged() }

// declare opens the triggers that the ScaledObject declares, so that they have evidence
// before KEDA calls. It closes all if the ScaledObject is gone.
func (e *Evaluator) declare(o cluster.NamespacedName) {
	e.declaring.Lock()
	defer e.declaring.Unlock()
	so, err := e.opts.Cluster.ScaledObject(o.Namespace, o.Name)
	if err != nil && !errors.Is(err, cluster.ErrNotFound) {
		return // not known is not gone
	}
	for _, t := range so.Triggers {
		// Metadata that do not parse may be another scaler's. If they are ours, the
		// error goes to KEDA's call.
		_, _ = e.open(o, t.Metadata, true)
	}
	for _, t := range e.triggers.markDeclared(o, so.Triggers) {
		e.wakeFollowers(t)
	}
	if err != nil {
		removed := e.triggers.removeAll(o)
		// An evaluation under way may delay a close, and must not delay the informers.
		e.closing.Go(func() { e.close(removed) })
	}
}

// close closes triggers that are in the registry no more. Their followers decide
// without them.
func (e *Evaluator) close(triggers []*Trigger) {
	for _, t := range triggers {
		t.close()
		e.opts.Logger.Info("trigger closed", t.attributes()...)
		e.wakeFollowers(t)
	}
}

// Ready returns nil once the cluster and its nodes are known, and every open trigger has
// been read, or has failed to be, for the first time. After firstPass it waits for the
// cluster alone.
func (e *Evaluator) Ready() error {
	if e.ready.Load() {
		return nil
	}
	if c := e.opts.Cluster; c != nil {
		if !c.Synced() {
			return cluster.ErrNotSynced
		}
		e.firstSync.Do(func() { // later ones come by Changed
			for _, so := range c.ScaledObjects() {
				e.declare(cluster.NamespacedName{Namespace: so.Namespace, Name: so.Name})
			}
		})
	}
	now := time.Now()
	e.syncedAt.CompareAndSwap(nil, &now)
	if now.Sub(*e.syncedAt.Load()) < firstPass {
		if !e.broker.Synced() {
			return fmt.Errorf("what the nodes hold: %w", cluster.ErrNotSynced)
		}
		all := e.triggers.all()
		unread := 0
		for _, t := range all {
			if !t.isSettled() {
				unread++
			}
		}
		if unread > 0 {
			return fmt.Errorf("%d of %d triggers have not been read yet", unread, len(all))
		}
	}
	e.ready.Store(true)
	return nil
}

// Explanations explains the present answers of the triggers that the filter accepts, in
// the order of their names.
func (e *Evaluator) Explanations(accept func(namespace, scaledObject string) bool) []explain.Explanation {
	now := time.Now()
	all := []explain.Explanation{}
	for _, t := range e.triggers.all() {
		if accept(t.object.Namespace, t.object.Name) {
			all = append(all, t.explanation(now))
		}
	}
	slices.SortFunc(all, func(a, b explain.Explanation) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.ScaledObject, b.ScaledObject), cmp.Compare(a.Trigger, b.Trigger))
	})
	return all
}
