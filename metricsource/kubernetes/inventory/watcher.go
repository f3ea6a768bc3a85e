package inventory

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	"github.com/inference-scaler/inference-scaler/metricsource/kubernetes/informer"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	coreinformers "k8s.io/client-go/informers/core/v1"
	nodeinformers "k8s.io/client-go/informers/node/v1"
	schedulinginformers "k8s.io/client-go/informers/scheduling/v1"
	kube "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// recoveryTime is the time without an error after which an informer reads again. It
// retries within a minute and reports each failure.
const recoveryTime = 2 * time.Minute

// notAllowed is the reason why a resource is not known.
const notAllowed = "not allowed to list and watch them"

// Options of a Watcher; all are required.
type Options struct {
	Kube    kube.Interface
	Dynamic dynamic.Interface
	// Namespaces whose pods the caller passes to SetPod, sorted; metav1.NamespaceAll alone: all.
	Namespaces []string
	Logger     *slog.Logger
	// OnChange is called when the inventory may have changed, and OnClasses when Resolve
	// may return something else. Both are called without a lock and must return at once.
	OnChange, OnClasses func()
}

// Watcher keeps everything but the workloads of an inventory current. Its methods are
// safe for concurrent use.
type Watcher struct {
	opts Options
	log  *slog.Logger
	// changed is set until Notify has called OnChange.
	changed atomic.Bool

	mu          sync.Mutex
	nodes       map[string]*node
	namespaces  map[string]*namespace
	classes     *classes
	autoscalers *autoscalers // nil: not searched yet
	// unlisted maps each resource that is required and not known to the reason, which is
	// empty before the first listing. noQuotas maps each namespace whose quotas may not be
	// listed to the reason.
	unlisted map[string]string
	noQuotas map[string]string
	built    *cluster.Inventory // nil: outdated
}

// namespace holds the pods of one namespace, and its quotas.
type namespace struct {
	pods   map[string]*Pod
	quotas map[string]*quota
}

// New returns a Watcher that knows nothing before Run.
func New(opts Options) *Watcher {
	return &Watcher{
		opts:       opts,
		log:        opts.Logger,
		nodes:      map[string]*node{},
		namespaces: map[string]*namespace{},
		classes:    newClasses(),
		unlisted:   map[string]string{nodeAutoscalers: ""},
		noQuotas:   map[string]string{},
	}
}

// Run watches until ctx is done and returns nil when everything it started has ended.
// Errors of the API server are logged and retried.
func (w *Watcher) Run(ctx context.Context) error {
	listings, err := w.listings()
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, l := range listings {
		g.Go(func() error {
			l.Run(ctx)
			return nil
		})
		g.Go(func() error {
			w.follow(ctx, l)
			return nil
		})
	}
	g.Go(func() error {
		w.pollAutoscalers(ctx)
		return nil
	})
	return g.Wait()
}

// listing is a watched resource. Its errors come from one goroutine.
type listing struct {
	*informer.Watch
	failed chan struct{} // capacity 1: the informer reported an error
	// Of the refusals that continue: the first and the last.
	refusedSince, refusedLast time.Time
}

// listings prepares the informers; nothing runs yet.
func (w *Watcher) listings() ([]*listing, error) {
	kc, none := w.opts.Kube, cache.Indexers{}
	kinds := []informer.Kind{
		{Resource: "nodes", Informer: coreinformers.NewNodeInformer(kc, 0, none), Trim: trimNode, Handler: informer.Handler(w.setNode, w.deleteNode)},
		{
			Resource: "priorityclasses.scheduling.k8s.io", Informer: schedulinginformers.NewPriorityClassInformer(kc, 0, none),
			Trim: trimPriorityClass, Handler: informer.Handler(w.setPriorityClass, w.deletePriorityClass),
		},
		{
			Resource: "runtimeclasses.node.k8s.io", Informer: nodeinformers.NewRuntimeClassInformer(kc, 0, none),
			Trim: trimRuntimeClass, Handler: informer.Handler(w.setRuntimeClass, w.deleteRuntimeClass),
		},
	}
	if w.opts.Namespaces[0] != metav1.NamespaceAll {
		elsewhere := func(o *metav1.ListOptions) {
			o.FieldSelector = "metadata.namespace!=" + strings.Join(w.opts.Namespaces, ",metadata.namespace!=")
		}
		kinds = append(kinds, informer.Kind{
			Resource: "pods of all namespaces", Informer: coreinformers.NewFilteredPodInformer(kc, metav1.NamespaceAll, 0, none, elsewhere),
			Trim: trimPod, Handler: informer.Handler(w.setOtherPod, w.deleteOtherPod),
		})
	}
	var all []*listing
	prepare := func(namespace string, k informer.Kind) (err error) {
		l := &listing{failed: make(chan struct{}, 1)}
		l.Watch, err = informer.New(namespace, k, func(_ *informer.Watch, err error) { w.interrupted(l, err) })
		all = append(all, l)
		return err
	}
	for _, k := range kinds {
		if err := prepare(metav1.NamespaceAll, k); err != nil {
			return nil, err
		}
	}
	for _, ns := range w.opts.Namespaces {
		if err := prepare(ns, informer.Kind{
			Resource: resourceQuotas, Informer: coreinformers.NewResourceQuotaInformer(kc, ns, 0, none),
			Trim: trimQuota, Handler: informer.Handler(w.setQuota, w.deleteQuota),
		}); err != nil {
			return nil, err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range all {
		w.unlisted[l.String()] = ""
	}
	return all, nil
}

// follow marks a resource as known after its first listing, and again when it can be
// read after errors.
func (w *Watcher) follow(ctx context.Context, l *listing) {
	select {
	case <-ctx.Done():
		return
	case <-l.Synced():
		w.known(l)
	}
	var recovered <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.failed:
			recovered = time.After(recoveryTime)
		case <-recovered:
			w.known(l)
		}
	}
}

// interrupted handles an error of an informer. While the API server is away, the last
// listing remains valid: nothing can change. After a right was revoked it does not. But an
// API server that has just started may refuse every request for a while. A missing right
// is logged once: an administrator may withhold it on purpose.
func (w *Watcher) interrupted(l *listing, err error) {
	select {
	case l.failed <- struct{}{}:
	default:
	}
	if !apierrors.IsForbidden(err) && !apierrors.IsUnauthorized(err) {
		l.LogError(w.log, err)
		return
	}
	now := time.Now()
	if now.Sub(l.refusedLast) > recoveryTime {
		l.refusedSince = now
	}
	l.refusedLast = now
	if l.HasListed() && now.Sub(l.refusedSince) < recoveryTime {
		l.LogError(w.log, err)
		return
	}
	if w.unknown(l, notAllowed) {
		w.log.Warn("GPU capacity is not fully known; grant these verbs to the scaler's service account", "verbs", "list, watch", "resource", l.String(), "err", err)
	}
}

// known removes the reason why a resource was not known.
func (w *Watcher) known(l *listing) {
	w.update(func() bool {
		_, changed := w.unlisted[l.String()]
		delete(w.unlisted, l.String())
		if l.Resource == resourceQuotas && w.noQuotas[l.Namespace] != "" {
			delete(w.noQuotas, l.Namespace)
			changed = true
		}
		return changed
	})
}

// unknown records why a resource is not known, and reports whether the reason is new.
// Quotas are optional: the inventory is built without them.
func (w *Watcher) unknown(l *listing, why string) (changed bool) {
	w.update(func() bool {
		reasons, key := w.unlisted, l.String()
		if l.Resource == resourceQuotas {
			delete(w.unlisted, key)
			reasons, key = w.noQuotas, l.Namespace
		}
		changed = reasons[key] != why
		reasons[key] = why
		return changed
	})
	return changed
}

// update runs f under the lock. f reports whether the inventory changed.
func (w *Watcher) update(f func() bool) {
	w.mu.Lock()
	if f() {
		w.markChanged()
	}
	w.mu.Unlock()
	w.Notify()
}

// markChanged discards the built inventory. The caller holds the lock.
func (w *Watcher) markChanged() {
	w.built = nil
	w.changed.Store(true)
}

// Invalidate discards the built inventory, because a workload changed. Notify reports it.
func (w *Watcher) Invalidate() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.markChanged()
}

// Notify calls OnChange if the inventory changed since the last call. SetPod, DeletePod and
// Invalidate leave that to their caller, which may hold a lock.
func (w *Watcher) Notify() {
	if w.changed.Swap(false) {
		w.opts.OnChange()
	}
}

// Current returns the inventory, or nil if Build has to be called. The error gives the
// reason why there is none, or wraps cluster.ErrNotSynced before the first listings.
func (w *Watcher) Current() (*cluster.Inventory, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.err(); err != nil {
		return nil, err
	}
	return w.built, nil
}

// Build returns the inventory with these workloads, ordered by namespace and name. The
// caller must prevent changes of workloads and pods meanwhile, so that they match. Quotas
// of namespaces that are not synced are left out: their pods are not all known.
func (w *Watcher) Build(workloads []*cluster.Workload, synced func(namespace string) bool) (*cluster.Inventory, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.err(); err != nil {
		return nil, err
	}
	if w.built == nil {
		w.built = w.build(workloads, synced)
	}
	return w.built, nil
}

// err returns why there is no inventory. The caller holds the lock.
func (w *Watcher) err() error {
	var err error
	for _, resource := range slices.Sorted(maps.Keys(w.unlisted)) {
		if why := w.unlisted[resource]; why != "" {
			return fmt.Errorf("%s: %s", resource, why)
		}
		err = fmt.Errorf("%s: %w", resource, cluster.ErrNotSynced)
	}
	return err
}

func (w *Watcher) build(workloads []*cluster.Workload, synced func(namespace string) bool) *cluster.Inventory {
	out := &cluster.Inventory{NoQuotas: maps.Clone(w.noQuotas), Workloads: workloads}
	for _, n := range w.nodes {
		if n.spec == nil {
			continue
		}
		if n.built == nil {
			n.built = NewNode(n.spec, slices.Collect(maps.Values(n.pods)))
		}
		out.Nodes = append(out.Nodes, n.built)
	}
	slices.SortFunc(out.Nodes, func(a, b *cluster.Node) int { return cmp.Compare(a.Name, b.Name) })
	out.Autoscaler = w.autoscaler(out.Nodes)
	for name, n := range w.namespaces {
		if out.NoQuotas[metav1.NamespaceAll] == "" && out.NoQuotas[name] == "" && synced(name) {
			out.Quotas = append(out.Quotas, n.usage(name)...)
		}
	}
	slices.SortFunc(out.Quotas, func(a, b *cluster.Quota) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// inNamespace runs f on a namespace, which it creates, and removes it if it is empty
// afterwards. The caller holds the lock.
func (w *Watcher) inNamespace(name string, f func(*namespace)) {
	n := w.namespaces[name]
	if n == nil {
		n = &namespace{pods: map[string]*Pod{}, quotas: map[string]*quota{}}
		w.namespaces[name] = n
	}
	f(n)
	if len(n.pods)+len(n.quotas) == 0 {
		delete(w.namespaces, name)
	}
}

// SetPod records a pod. The caller calls Notify when it holds no lock.
func (w *Watcher) SetPod(p *Pod) { w.setPod(p.Namespace, p.Name, p) }

// DeletePod removes a pod. The caller calls Notify when it holds no lock.
func (w *Watcher) DeletePod(namespace, name string) { w.setPod(namespace, name, nil) }

func (w *Watcher) setPod(ns, name string, p *Pod) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.inNamespace(ns, func(n *namespace) {
		old := n.pods[name]
		if n.pods[name] = p; p == nil {
			delete(n.pods, name)
		}
		rebound := w.bind(types.NamespacedName{Namespace: ns, Name: name}, old.boundPod(), p.boundPod())
		// A quota counts a pod before it is bound to a node.
		if rebound || len(n.quotas) > 0 && old.counted() != p.counted() {
			w.markChanged()
		}
	})
}

func (w *Watcher) setOtherPod(p *Pod) {
	w.SetPod(p)
	w.Notify()
}

func (w *Watcher) deleteOtherPod(namespace, name string) {
	w.DeletePod(namespace, name)
	w.Notify()
}
