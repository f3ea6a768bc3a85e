package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

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

// Options of a Cluster; the zero value is fit for use.
type Options struct {
	// Namespaces that are watched; empty: all of them.
	Namespaces []string
	// Logger; nil: slog.Default.
	Logger *slog.Logger
	// ScalePollInterval is how often a scale target other than a Deployment or a
	// StatefulSet is read; 0: 5s.
	ScalePollInterval time.Duration
}

// clients are the ways to the API server; tests put fakes here.
type clients struct {
	kube    kube.Interface
	dynamic dynamic.Interface
	scales  scale.ScalesGetter
	mapper  meta.RESTMapper
}

// Cluster watches the ScaledObjects of some namespaces, their scale targets and
// pods. Its methods answer from memory and may be called from any goroutine.
type Cluster struct {
	clients clients
	opts    Options
	log     *slog.Logger
	index   *index
	running atomic.Bool
}

// New connects to the API server of cfg, which it does not change; it makes no
// request before Run.
func New(cfg *rest.Config, opts Options) (*Cluster, error) {
	cfg = rest.CopyConfig(cfg)
	if cfg.QPS == 0 {
		// client-go's default of 5 a second would queue the first reads of many
		// scale subresources for seconds; the server has its own flow control.
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
	// scale.NewForConfig writes into the config it is given.
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
	return &Cluster{clients: cl, opts: opts, log: opts.Logger, index: newIndex(opts.Namespaces)}
}

// Run watches until ctx is done and returns nil once everything it started has
// ended. It may be called once.
//
// onChange is called whenever what Workload or ScaledObject answer of a
// ScaledObject may have changed, and for each of them when the first listing of
// its namespace has ended. It is called from the goroutines that keep the index
// current and must return at once; it may call Cluster's methods. So is onInventory,
// whenever what Inventory answers may have changed.
//
// An API server that cannot be reached, a missing CRD and missing permissions
// are logged and retried, never returned.
func (c *Cluster) Run(ctx context.Context, onChange func(namespace, scaledObject string), onInventory func()) error {
	if !c.running.CompareAndSwap(false, true) {
		return errors.New("kubernetes: Cluster.Run was called before")
	}
	c.index.onChange, c.index.onInventory = onChange, onInventory
	var watches []watch
	for _, ns := range c.opts.Namespaces {
		ws, err := c.watches(ns)
		if err != nil {
			return err
		}
		watches = append(watches, ws...)
	}

	inventory, err := c.inventoryWatches()
	if err != nil {
		return err
	}

	// What client-go itself has to say goes through our logger too.
	ctx = klog.NewContext(ctx, logr.FromSlogHandler(c.log.Handler()))
	g, ctx := errgroup.WithContext(ctx)
	for _, w := range slices.Concat(watches, inventory) {
		g.Go(func() error {
			w.informer.RunWithContext(ctx)
			return nil
		})
	}
	for _, w := range inventory {
		g.Go(func() error {
			c.followListing(ctx, w)
			return nil
		})
	}
	g.Go(func() error {
		c.watchAutoscalers(ctx)
		return nil
	})
	for _, ns := range c.opts.Namespaces {
		g.Go(func() error {
			c.awaitSync(ctx, ns, watches)
			return nil
		})
	}
	p := newPoller(c.clients, c.index, c.opts.ScalePollInterval, c.log)
	g.Go(func() error {
		p.run(ctx)
		return nil
	})
	return g.Wait()
}

// Synced reports whether the first listing of every namespace watched has ended.
func (c *Cluster) Synced() bool { return c.index.allSynced() }

// Client returns the client of the API server, for the packages below that write.
func (c *Cluster) Client() kube.Interface { return c.clients.kube }
