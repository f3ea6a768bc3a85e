package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/dynamicinformer"
	appsinformers "k8s.io/client-go/informers/apps/v1"
	coreinformers "k8s.io/client-go/informers/core/v1"
	discoveryinformers "k8s.io/client-go/informers/discovery/v1"
	"k8s.io/client-go/tools/cache"
)

// logEvery bounds how often a failure that goes on is logged again.
const logEvery = time.Minute

var scaledObjects = schema.GroupVersionResource{Group: "keda.sh", Version: "v1alpha1", Resource: "scaledobjects"}

// watch is one informer of one namespace.
type watch struct {
	namespace, resource string
	informer            cache.SharedIndexInformer
	handler             cache.ResourceEventHandlerRegistration
}

// watches prepares the informers of a namespace; nothing runs yet. They keep
// trimmed objects only, and hand them to the index.
func (c *Cluster) watches(namespace string) ([]watch, error) {
	kc, ix, none := c.clients.kube, c.index, cache.Indexers{}
	var ws []watch
	for _, k := range []struct {
		resource string
		informer cache.SharedIndexInformer
		trim     cache.TransformFunc
		handler  cache.ResourceEventHandler
	}{
		{"pods", coreinformers.NewPodInformer(kc, namespace, 0, none), trimPod, handler(ix.setPod, ix.deletePod)},
		{"deployments.apps", appsinformers.NewDeploymentInformer(kc, namespace, 0, none), trimTarget, handler(ix.setTarget, ix.deleteTarget(kindDeployment))},
		{"statefulsets.apps", appsinformers.NewStatefulSetInformer(kc, namespace, 0, none), trimTarget, handler(ix.setTarget, ix.deleteTarget(kindStatefulSet))},
		{"services", coreinformers.NewServiceInformer(kc, namespace, 0, none), trimService, handler(ix.setService, ix.deleteService)},
		{"endpointslices.discovery.k8s.io", discoveryinformers.NewEndpointSliceInformer(kc, namespace, 0, none), trimEndpointSlice, handler(ix.setEndpointSlice, ix.deleteEndpointSlice)},
		{"scaledobjects.keda.sh", dynamicinformer.NewFilteredDynamicInformer(c.clients.dynamic, scaledObjects, namespace, 0, none, nil).Informer(), trimScaledObject, handler(ix.setObject, ix.deleteObject)},
	} {
		if err := k.informer.SetTransform(k.trim); err != nil {
			return nil, fmt.Errorf("watching %s: %w", k.resource, err)
		}
		if err := k.informer.SetWatchErrorHandlerWithContext(c.watchErrors(namespace, k.resource)); err != nil {
			return nil, fmt.Errorf("watching %s: %w", k.resource, err)
		}
		h, err := k.informer.AddEventHandler(k.handler)
		if err != nil {
			return nil, fmt.Errorf("watching %s: %w", k.resource, err)
		}
		ws = append(ws, watch{namespace, k.resource, k.informer, h})
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

// watchErrors logs why a listing or a watch ended, once a minute at most; the
// informer retries by itself, after 0.8 to 60 s. What was known stays known.
func (c *Cluster) watchErrors(namespace, resource string) cache.WatchErrorHandlerWithContext {
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
		log := c.log.With("resource", resource, "namespace", shown(namespace), "err", err)
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
