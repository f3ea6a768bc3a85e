package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	"github.com/inference-scaler/inference-scaler/metricsource/kubernetes/informer"
	"github.com/inference-scaler/inference-scaler/metricsource/kubernetes/inventory"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	kube "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/scale"
	"k8s.io/klog/v2"
)

// Options of a Cluster; the zero value is valid.
type Options struct {
	// Namespaces that are watched; empty: all of them.
	Namespaces []string
	// Logger; nil: slog.Default.
	Logger *slog.Logger
	// ScalePollInterval is how often a scale target other than a Deployment or a
	// StatefulSet is read; 0: 5s.
	ScalePollInterval time.Duration
}

// clients of the API server; fakes in tests.
type clients struct {
	kube    kube.Interface
	dynamic dynamic.Interface
	scales  scale.ScalesGetter
	mapper  meta.RESTMapper
}

// Cluster watches the ScaledObjects of some namespaces, their scale targets and pods, and
// what the inventory needs. Its methods answer from memory, but for Secret, and are safe
// for concurrent use.
type Cluster struct {
	clients   clients
	opts      Options
	log       *slog.Logger
	index     *index
	inventory *inventory.Watcher
	running   atomic.Bool
	// onInventory is set before anything runs.
	onInventory func()
}

// New prepares a Cluster of the API server of cfg, which it does not change. It makes no
// request before Run.
func New(cfg *rest.Config, opts Options) (*Cluster, error) {
	cfg = rest.CopyConfig(cfg)
	if cfg.QPS == 0 {
		// client-go's default of 5 requests a second delays the first reads of many
		// scale subresources by seconds. The API server has its own flow control.
		cfg.QPS, cfg.Burst = 50, 100
	}
	cfg.Wrap(refuseOpenly)
	typed := rest.CopyConfig(cfg)
	typed.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	typed.ContentType = "application/vnd.kubernetes.protobuf"
	kc, err := kube.NewForConfig(typed)
	if err != nil {
		return nil, fmt.Errorf("kubernetes client: %w", err)
	}
	dc, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("dynamic client: %w", err)
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(kc.Discovery()))
	// scale.NewForConfig modifies its config.
	sc, err := scale.NewForConfig(rest.CopyConfig(cfg), mapper, dynamic.LegacyAPIPathResolverFunc,
		scale.NewDiscoveryScaleKindResolver(kc.Discovery()))
	if err != nil {
		return nil, fmt.Errorf("scale client: %w", err)
	}
	return newCluster(clients{kube: kc, dynamic: dc, scales: sc, mapper: mapper}, opts), nil
}

func newCluster(cl clients, opts Options) *Cluster {
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	if opts.ScalePollInterval <= 0 {
		opts.ScalePollInterval = 5 * time.Second
	}
	opts.Namespaces = slices.Clone(opts.Namespaces)
	slices.Sort(opts.Namespaces)
	opts.Namespaces = slices.Compact(opts.Namespaces)
	if len(opts.Namespaces) == 0 || opts.Namespaces[0] == metav1.NamespaceAll {
		opts.Namespaces = []string{metav1.NamespaceAll}
	}
	c := &Cluster{clients: cl, opts: opts, log: opts.Logger}
	c.inventory = inventory.New(inventory.Options{
		Kube: cl.kube, Dynamic: cl.dynamic, Namespaces: opts.Namespaces, Logger: opts.Logger,
		OnChange: func() {
			if c.onInventory != nil {
				c.onInventory()
			}
		},
		OnClasses: func() { c.index.resolveTemplates() },
	})
	c.index = newIndex(opts.Namespaces, c.inventory)
	return c
}

// Run watches until ctx is done and returns nil when everything it started has ended. It
// may be called once.
//
// onChange is called when the result of Workload or ScaledObject may have changed for a
// ScaledObject, and for each ScaledObject of a namespace after the first listing.
// onInventory is called when the result of Inventory may have changed. Both are called from
// the goroutines that keep the indexes current, and must return at once. They may call the
// methods of Cluster.
//
// If the API server cannot be reached, a CRD is missing or a right is missing, that is
// logged and retried, never returned.
func (c *Cluster) Run(ctx context.Context, onChange func(namespace, scaledObject string), onInventory func()) error {
	if !c.running.CompareAndSwap(false, true) {
		return errors.New("kubernetes: Cluster.Run was called before")
	}
	c.index.onChange, c.onInventory = onChange, onInventory
	watches := map[string][]*informer.Watch{}
	for _, ns := range c.opts.Namespaces {
		var err error
		if watches[ns], err = c.watches(ns); err != nil {
			return err
		}
	}
	// client-go's own messages go to our logger.
	ctx = klog.NewContext(ctx, logr.FromSlogHandler(c.log.Handler()))
	g, ctx := errgroup.WithContext(ctx)
	for ns, ws := range watches {
		for _, w := range ws {
			g.Go(func() error {
				w.Run(ctx)
				return nil
			})
		}
		g.Go(func() error {
			c.awaitSync(ctx, ns, ws)
			return nil
		})
	}
	g.Go(func() error { return c.inventory.Run(ctx) })
	p := newPoller(c.clients, c.index, c.opts.ScalePollInterval, c.log)
	g.Go(func() error {
		p.run(ctx)
		return nil
	})
	return g.Wait()
}

// Synced reports whether the first listings of every watched namespace have ended.
func (c *Cluster) Synced() bool { return c.index.allSynced() }

// Inventory returns what the nodes offer, what their pods hold, and the workloads of
// ScaledObjects with external triggers: all at one moment. The error gives the reason why
// an inventory is missing, or wraps cluster.ErrNotSynced before the first listings.
func (c *Cluster) Inventory() (*cluster.Inventory, error) {
	if inv, err := c.inventory.Current(); inv != nil || err != nil {
		return inv, err
	}
	ix := c.index
	ix.mu.Lock() // no pod and no workload changes until the inventory is built
	defer ix.mu.Unlock()
	return c.inventory.Build(ix.workloads(), ix.synced)
}

// Client returns the client of the API server, for the packages below that write.
func (c *Cluster) Client() kube.Interface { return c.clients.kube }
