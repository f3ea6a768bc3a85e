package lease

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
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kube "k8s.io/client-go/kubernetes"
	kubefake "k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// start runs a replica's Lease until stop, which returns after Run has.
func start(t *testing.T, client kube.Interface, identity string, log *logtest.Buffer) (l *Lease, stop func()) {
	l, err := New(client, Options{Namespace: "system", Name: "writer", Identity: identity, Logger: slog.New(slog.NewTextHandler(log, nil))})
	require.NoError(t, err)
	require.Equal(t, identity, l.Identity())
	require.False(t, l.Held(), "nothing is held before Run")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	stopped := false
	stop = func() {
		if cancel(); !stopped {
			require.NoError(t, <-done)
			stopped = true
		}
	}
	t.Cleanup(stop)
	synctest.Wait()
	return l, stop
}

func TestOneReplicaHoldsTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := kubefake.NewClientset()
		var log logtest.Buffer
		one, stop := start(t, client, "one", &log)
		two, _ := start(t, client, "two", &logtest.Buffer{})
		require.True(t, one.Held())
		require.False(t, two.Held())
		require.Contains(t, log.String(), `msg="this replica holds the Lease" lease=system/writer`)

		time.Sleep(10 * leaseDuration)
		synctest.Wait()
		require.True(t, one.Held(), "it is renewed")
		require.False(t, two.Held())

		stop()
		require.False(t, one.Held())
		time.Sleep(leaseDuration)
		synctest.Wait()
		require.True(t, two.Held())
	})
}

func TestLeaseThatCannotBeRenewedIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := kubefake.NewClientset()
		var forbidden atomic.Bool
		forbidden.Store(true)
		client.PrependReactor("*", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
			return forbidden.Load(), nil, apierrors.NewForbidden(schema.GroupResource{Resource: "leases"}, "", errors.New("no"))
		})
		var log logtest.Buffer
		l, _ := start(t, client, "me", &log)
		after := func(d time.Duration) bool {
			time.Sleep(d) // of the bubble
			synctest.Wait()
			return l.Held()
		}
		require.False(t, after(50*time.Second))
		require.Equal(t, 1, strings.Count(log.String(), "verb=get resource=leases.coordination.k8s.io"), log.String())
		forbidden.Store(false)
		require.True(t, after(10*time.Second))
		forbidden.Store(true)
		require.False(t, after(time.Minute))
		forbidden.Store(false)
		require.True(t, after(time.Minute))
	})
}

func TestLeaseNeedsNamespaceNameAndIdentity(t *testing.T) {
	for _, opts := range []Options{{Namespace: "system", Name: "writer"}, {Namespace: "system", Identity: "me"}, {Name: "writer", Identity: "me"}} {
		_, err := New(kubefake.NewClientset(), opts)
		require.EqualError(t, err, "lease: namespace, name and identity are required")
	}
}
