package informer

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/kubernetes/logtest"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	coreinformers "k8s.io/client-go/informers/core/v1"
	kubefake "k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
)

type service struct{ metav1.ObjectMeta }

func trim(obj any) (any, error) {
	if s, ok := obj.(*corev1.Service); ok {
		return &service{Identify(s)}, nil
	}
	return obj, nil
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kube := kubefake.NewSimpleClientset(&corev1.Service{ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: "api", UID: "u", Annotations: map[string]string{"big": "blob"},
		}})
		var refused atomic.Bool
		refused.Store(true)
		kube.PrependReactor("list", "services", func(clienttesting.Action) (bool, runtime.Object, error) {
			return refused.Load(), nil, apierrors.NewForbidden(schema.GroupResource{Resource: "services"}, "", errors.New("no"))
		})
		var got, removed []string
		var log logtest.Buffer
		logger := slog.New(slog.NewTextHandler(&log, nil))
		w, err := New("ns", Kind{
			Resource: "services", Informer: coreinformers.NewServiceInformer(kube, "ns", 0, cache.Indexers{}), Trim: trim,
			Handler: Handler(func(s *service) {
				require.Empty(t, s.Annotations)
				got = append(got, s.Namespace+"/"+s.Name)
			}, func(namespace, name string) { removed = append(removed, namespace+"/"+name) }),
		}, func(w *Watch, err error) { w.LogError(logger, err) })
		require.NoError(t, err)
		require.Equal(t, "services of namespace ns", w.String())

		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		synced := make(chan bool, 1)
		go w.Run(ctx)
		go func() { synced <- AwaitSync(ctx, logger, "ns", []*Watch{w}) }()
		time.Sleep(3*time.Minute - time.Second) // of the bubble
		synctest.Wait()
		require.Empty(t, got)
		require.False(t, w.HasListed())
		require.Empty(t, synced)
		require.LessOrEqual(t, strings.Count(log.String(), "not allowed to read this resource"), 3, "it retries more often than it logs")
		require.Equal(t, 2, strings.Count(log.String(), `msg="not synced with the cluster yet" namespace=ns waiting_for=services`))

		refused.Store(false)
		require.True(t, <-synced)
		require.True(t, w.HasListed())
		require.Equal(t, []string{"ns/api"}, got)
		require.NoError(t, kube.CoreV1().Services("ns").Delete(ctx, "api", metav1.DeleteOptions{}))
		synctest.Wait()
		require.Equal(t, []string{"ns/api"}, removed)
	})
}

func TestAwaitSyncEndsWithItsContext(t *testing.T) {
	w, err := New("", Kind{
		Resource: "services", Informer: coreinformers.NewServiceInformer(kubefake.NewSimpleClientset(), "", 0, cache.Indexers{}),
		Trim: trim, Handler: Handler(func(*service) {}, func(string, string) {}),
	}, func(*Watch, error) {})
	require.NoError(t, err)
	require.Equal(t, "services", w.String())
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.False(t, AwaitSync(ctx, slog.New(slog.DiscardHandler), "", []*Watch{w}))
}

func TestHandlerOfAMissedDeletion(t *testing.T) {
	var removed string
	h := Handler(func(*service) {}, func(namespace, name string) { removed = namespace + "/" + name })
	h.OnDelete(cache.DeletedFinalStateUnknown{Key: "ns/api"})
	require.Equal(t, "ns/api", removed, "the watch may know only the key")
}
