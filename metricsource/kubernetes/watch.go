package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/dynamicinformer"
	appsinformers "k8s.io/client-go/informers/apps/v1"
	coreinformers "k8s.io/client-go/informers/core/v1"
	discoveryinformers "k8s.io/client-go/informers/discovery/v1"
	nodeinformers "k8s.io/client-go/informers/node/v1"
	schedulinginformers "k8s.io/client-go/informers/scheduling/v1"
	"k8s.io/client-go/tools/cache"
)

// logEvery bounds how often a failure that goes on is logged again.
const logEvery = time.Minute

// recovered is how long after its last failure an informer is known to read again: it
// retries within a minute, and tells each failure.
const recovered = 2 * time.Minute

var scaledObjects = schema.GroupVersionResource{Group: "keda.sh", Version: "v1alpha1", Resource: "scaledobjects"}

// watch is one informer of one namespace.
type watch struct {
	namespace, resource string
	informer            cache.SharedIndexInformer
	handler             cache.ResourceEventHandlerRegistration
	failed              chan struct{} // holds one: a listing or a watch has ended with an error
}

// kind is a resource to be watched.
type kind struct {
	resource string
	informer cache.SharedIndexInformer
	trim     cache.TransformFunc
	handler  cache.ResourceEventHandler
}

// watches prepares the informers of a namespace; nothing runs yet. They keep
// trimmed objects only, and hand them to the index.
func (c *Cluster) watches(namespace string) ([]watch, error) {
	kc, ix, none := c.clients.kube, c.index, cache.Indexers{}
	return c.prepare(namespace, c.watchErrors, []kind{
		{"pods", coreinformers.NewPodInformer(kc, namespace, 0, none), trimPod, handler(ix.setPod, ix.deletePod)},
		{"deployments.apps", appsinformers.NewDeploymentInformer(kc, namespace, 0, none), trimTarget, handler(ix.setTarget, ix.deleteTarget(kindDeployment))},
		{"statefulsets.apps", appsinformers.NewStatefulSetInformer(kc, namespace, 0, none), trimTarget, handler(ix.setTarget, ix.deleteTarget(kindStatefulSet))},
		{"services", coreinformers.NewServiceInformer(kc, namespace, 0, none), trimService, handler(ix.setService, ix.deleteService)},
		{"endpointslices.discovery.k8s.io", discoveryinformers.NewEndpointSliceInformer(kc, namespace, 0, none), trimEndpointSlice, handler(ix.setEndpointSlice, ix.deleteEndpointSlice)},
		{"scaledobjects.keda.sh", dynamicinformer.NewFilteredDynamicInformer(c.clients.dynamic, scaledObjects, namespace, 0, none, nil).Informer(), trimScaledObject, handler(ix.setObject, ix.deleteObject)},
	})
}

// inventoryWatches prepares those that the inventory needs besides. Without them
// nothing is known of capacity, and all else is.
func (c *Cluster) inventoryWatches() (all []watch, err error) {
	kc, ix, none := c.clients.kube, c.index, cache.Indexers{}
	kinds := []kind{
		{"nodes", coreinformers.NewNodeInformer(kc, 0, none), trimNode, handler(ix.setNode, ix.deleteNode)},
		{"priorityclasses.scheduling.k8s.io", schedulinginformers.NewPriorityClassInformer(kc, 0, none), trimPriorityClass, handler(ix.setPriorityClass, ix.deletePriorityClass)},
		{"runtimeclasses.node.k8s.io", nodeinformers.NewRuntimeClassInformer(kc, 0, none), trimRuntimeClass, handler(ix.setRuntimeClass, ix.deleteRuntimeClass)},
	}
	if c.opts.Namespaces[0] != metav1.NamespaceAll {
		elsewhere := func(o *metav1.ListOptions) {
			o.FieldSelector = "metadata.namespace!=" + strings.Join(c.opts.Namespaces, ",metadata.namespace!=")
		}
		kinds = append(kinds, kind{
			"pods of all namespaces", coreinformers.NewFilteredPodInformer(kc, metav1.NamespaceAll, 0, none, elsewhere), trimPod,
			handler(ix.setStranger, ix.deleteStranger),
		})
	}
	if all, err = c.prepare(metav1.NamespaceAll, c.inventoryErrors, kinds); err != nil {
		return nil, err
	}
	for _, namespace := range c.opts.Namespaces {
		ws, err := c.prepare(namespace, c.inventoryErrors, []kind{
			{resourceQuotas, coreinformers.NewResourceQuotaInformer(kc, namespace, 0, none), trimQuota, handler(ix.setQuota, ix.deleteQuota)},
		})
		if err != nil {
			return nil, err
		}
		all = append(all, ws...)
	}
	ix.mu.Lock()
	defer ix.mu.Unlock()
	for _, w := range all {
		ix.unread[w.String()] = ""
	}
	return all, nil
}

func (w watch) String() string {
	if w.namespace == metav1.NamespaceAll {
		return w.resource
	}
	return w.resource + " of namespace " + w.namespace
}

func (c *Cluster) prepare(namespace string, errors func(watch) cache.WatchErrorHandlerWithContext, kinds []kind) ([]watch, error) {
	ws := make([]watch, 0, len(kinds))
	for _, k := range kinds {
		w := watch{namespace: namespace, resource: k.resource, informer: k.informer, failed: make(chan struct{}, 1)}
		if err := k.informer.SetTransform(k.trim); err != nil {
			return nil, fmt.Errorf("watching %s: %w", k.resource, err)
		}
		if err := k.informer.SetWatchErrorHandlerWithContext(errors(w)); err != nil {
			return nil, fmt.Errorf("watching %s: %w", k.resource, err)
		}
		h, err := k.informer.AddEventHandler(k.handler)
		if err != nil {
			return nil, fmt.Errorf("watching %s: %w", k.resource, err)
		}
		w.handler = h
		ws = append(ws, w)
	}
	return ws, nil
}

// handler hands objects of a trimmed type to the index.
func handler[T any](set func(*T), drop func(namespace, name string)) cache.ResourceEventHandler {
	put := func(obj any) {
		if o, ok := obj.(*T); ok {
			set(o)
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    put,
		UpdateFunc: func(_, obj any) { put(obj) },
		DeleteFunc: func(obj any) {
			// The watch may have missed the deletion: then there is only a key.
			key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(obj)
			if err != nil {
				return
			}
			if namespace, name, err := cache.SplitMetaNamespaceKey(key); err == nil {
				drop(namespace, name)
			}
		},
	}
}

// awaitSync marks the namespace synced once the index has seen all of its first
// listings, and says meanwhile, once a minute, what is missing.
func (c *Cluster) awaitSync(ctx context.Context, namespace string, watches []watch) {
	tick := time.NewTicker(logEvery)
	defer tick.Stop()
	for _, w := range watches {
		if w.namespace != namespace {
			continue
		}
		for synced := false; !synced; {
			select {
			case <-ctx.Done():
				return
			case <-w.handler.HasSyncedChecker().Done():
				synced = true
			case <-tick.C:
				c.log.Warn("not synced with the cluster yet", "namespace", shown(namespace), "waiting_for", w.resource)
			}
		}
	}
	c.index.markSynced(namespace)
	c.log.Info("synced with the cluster", "namespace", shown(namespace))
}

// followListing marks a resource of the inventory as known once it is listed, and again
// once it is read after that was refused.
func (c *Cluster) followListing(ctx context.Context, w watch) {
	select {
	case <-ctx.Done():
		return
	case <-w.handler.HasSyncedChecker().Done():
		c.index.listed(w)
	}
	var quiet <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.failed:
			quiet = time.After(recovered)
		case <-quiet:
			c.index.listed(w)
		}
	}
}

// inventoryErrors notes, besides, why the inventory cannot be taken, or is taken without
// quotas. Not being allowed to is told once: who wants no limits has no need of it.
//
// What was listed stands while the API server is away, for nothing moves then. A right
// that was taken away leaves nothing to rely on; but a server that has just started may
// refuse everybody for a while.
func (c *Cluster) inventoryErrors(w watch) cache.WatchErrorHandlerWithContext {
	tell := c.watchErrors(w)
	var first, last time.Time // of the refusals that go on; called from one goroutine
	return func(ctx context.Context, r *cache.Reflector, err error) {
		select {
		case w.failed <- struct{}{}:
		default:
		}
		if !apierrors.IsForbidden(err) && !apierrors.IsUnauthorized(err) {
			tell(ctx, r, err)
			return
		}
		now := time.Now()
		if now.Sub(last) > recovered {
			first = now
		}
		last = now
		if w.informer.HasSynced() && now.Sub(first) < recovered {
			tell(ctx, r, err)
			return
		}
		if c.index.unlistable(w, "not allowed to list and watch them") {
			c.log.Warn("GPU capacity is not fully known; grant these verbs to the scaler's service account", "verbs", "list, watch", "resource", w.String(), "err", err)
		}
	}
}

// watchErrors logs why a listing or a watch ended, once a minute at most; the
// informer retries by itself, after 0.8 to 60 s. What was known stays known.
func (c *Cluster) watchErrors(w watch) cache.WatchErrorHandlerWithContext {
	var last time.Time // an informer calls this from one goroutine
	return func(ctx context.Context, _ *cache.Reflector, err error) {
		switch {
		case ctx.Err() != nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
			apierrors.IsResourceExpired(err), apierrors.IsGone(err):
			return // how a watch ends every few minutes
		case !last.IsZero() && time.Since(last) < logEvery:
			return
		}
		last = time.Now()
		log := c.log.With("resource", w.resource, "namespace", shown(w.namespace), "err", err)
		switch {
		case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
			log.Error("not allowed to read this resource; grant its verbs to the scaler's service account", "verbs", "list, watch")
		case apierrors.IsNotFound(err):
			log.Warn("the cluster does not know this resource; waiting until it is installed")
		default:
			log.Warn("reading this resource failed; retrying")
		}
	}
}

func shown(namespace string) string {
	if namespace == "" {
		return "(all)"
	}
	return namespace
}
