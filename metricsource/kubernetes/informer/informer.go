package informer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"golang.org/x/time/rate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

// logInterval bounds how often a continuing failure is logged again.
const logInterval = time.Minute

// Kind is a resource to list and watch.
type Kind struct {
	Resource string
	Informer cache.SharedIndexInformer
	Trim     cache.TransformFunc
	Handler  cache.ResourceEventHandler
}

// Watch is one informer with its handler, for one namespace or for all.
type Watch struct {
	Namespace, Resource string
	informer            cache.SharedIndexInformer
	handler             cache.ResourceEventHandlerRegistration
	log                 rate.Sometimes
}

// New prepares the informer of a kind. onError receives the errors that interrupt a
// listing or a watch, from one goroutine; the informer retries after 0.8 to 60 s and
// keeps what it has.
func New(namespace string, k Kind, onError func(*Watch, error)) (*Watch, error) {
	w := &Watch{Namespace: namespace, Resource: k.Resource, informer: k.Informer, log: rate.Sometimes{Interval: logInterval}}
	if err := k.Informer.SetTransform(k.Trim); err != nil {
		return nil, fmt.Errorf("watching %s: %w", k.Resource, err)
	}
	err := k.Informer.SetWatchErrorHandlerWithContext(func(ctx context.Context, _ *cache.Reflector, err error) {
		if ctx.Err() == nil && !expected(err) {
			onError(w, err)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("watching %s: %w", k.Resource, err)
	}
	if w.handler, err = k.Informer.AddEventHandler(k.Handler); err != nil {
		return nil, fmt.Errorf("watching %s: %w", k.Resource, err)
	}
	return w, nil
}

// expected reports whether the error is how a watch ends every few minutes.
func expected(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || apierrors.IsResourceExpired(err) || apierrors.IsGone(err)
}

// Run lists and watches until ctx is done.
func (w *Watch) Run(ctx context.Context) { w.informer.RunWithContext(ctx) }

// Synced is closed when the handler has received the first listing.
func (w *Watch) Synced() <-chan struct{} { return w.handler.HasSyncedChecker().Done() }

// HasListed reports whether the first listing has succeeded.
func (w *Watch) HasListed() bool { return w.informer.HasSynced() }

func (w *Watch) String() string {
	if w.Namespace == metav1.NamespaceAll {
		return w.Resource
	}
	return w.Resource + " of namespace " + w.Namespace
}

// LogError logs an error of the informer, at most once a minute.
func (w *Watch) LogError(log *slog.Logger, err error) {
	w.log.Do(func() {
		log := log.With("resource", w.Resource, "namespace", namespaceOrAll(w.Namespace), "err", err)
		switch {
		case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
			log.Error("not allowed to read this resource; grant its verbs to the scaler's service account", "verbs", "list, watch")
		case apierrors.IsNotFound(err):
			log.Warn("the cluster does not know this resource; waiting until it is installed")
		default:
			log.Warn("reading this resource failed; retrying")
		}
	})
}

// AwaitSync returns true when the handlers of all watches have received their first
// listings, and false when ctx is done before. It logs the one it waits for every minute.
func AwaitSync(ctx context.Context, log *slog.Logger, namespace string, watches []*Watch) bool {
	tick := time.NewTicker(logInterval)
	defer tick.Stop()
	for _, w := range watches {
		for synced := false; !synced; {
			select {
			case <-ctx.Done():
				return false
			case <-w.Synced():
				synced = true
			case <-tick.C:
				log.Warn("not synced with the cluster yet", "namespace", namespaceOrAll(namespace), "waiting_for", w.Resource)
			}
		}
	}
	log.Info("synced with the cluster", "namespace", namespaceOrAll(namespace))
	return true
}

func namespaceOrAll(namespace string) string {
	if namespace == metav1.NamespaceAll {
		return "(all)"
	}
	return namespace
}

// Handler passes added and updated objects of a trimmed type to set, and the namespace
// and name of deleted ones to remove.
func Handler[T any](set func(*T), remove func(namespace, name string)) cache.ResourceEventHandler {
	put := func(obj any) {
		if o, ok := obj.(*T); ok {
			set(o)
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    put,
		UpdateFunc: func(_, obj any) { put(obj) },
		DeleteFunc: func(obj any) {
			// The watch may have missed the deletion: obj is then a tombstone with a key.
			key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(obj)
			if err != nil {
				return
			}
			if namespace, name, err := cache.SplitMetaNamespaceKey(key); err == nil {
				remove(namespace, name)
			}
		},
	}
}

// Identify keeps the metadata that client-go's caches need, and the UID.
func Identify(o metav1.Object) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: o.GetName(), Namespace: o.GetNamespace(), UID: o.GetUID(), ResourceVersion: o.GetResourceVersion()}
}
