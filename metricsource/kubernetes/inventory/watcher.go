package inventory

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	kube "k8s.io/client-go/kubernetes"
)

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
