package inventory

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	"github.com/inference-scaler/inference-scaler/metricsource/kubernetes/informer"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coreinformers "k8s.io/client-go/informers/core/v1"
	nodeinformers "k8s.io/client-go/informers/node/v1"
	schedulinginformers "k8s.io/client-go/informers/scheduling/v1"
	"k8s.io/client-go/tools/cache"
)

// recoveryTime is the time without an error after which an informer reads again. It
// retries within a minute and reports each failure.
const recoveryTime = 2 * time.Minute

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
	if w.unknown(l, "not allowed to list and watch them") {
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
