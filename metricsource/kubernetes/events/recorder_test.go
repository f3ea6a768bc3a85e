package events

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/kubernetes/lease"
	"github.com/inference-scaler/inference-scaler/metricsource/kubernetes/logtest"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	kubefake "k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// fixture is a cluster in which the ScaledObject ns/so exists.
type fixture struct {
	t    *testing.T
	kube *kubefake.Clientset
	log  logtest.Buffer
}

func newFixture(t *testing.T) *fixture { return &fixture{t: t, kube: kubefake.NewSimpleClientset()} }

func uid(namespace, scaledObject string) (types.UID, bool) {
	return "uid-so", namespace == "ns" && scaledObject == "so"
}

// recorder starts a replica's Lease and Recorder; stop returns when both have ended.
func (f *fixture) recorder(identity string) (r *Recorder, stop func()) {
	log := slog.New(slog.NewTextHandler(&f.log, nil))
	held, err := lease.New(f.kube, lease.Options{Namespace: "system", Name: "events", Identity: identity, Logger: log})
	require.NoError(f.t, err)
	r = New(f.kube, held, uid, log)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- held.Run(ctx) }()
	go func() { done <- r.Run(ctx) }()
	stopped := false
	stop = func() {
		if cancel(); !stopped {
			require.NoError(f.t, <-done)
			require.NoError(f.t, <-done)
			stopped = true
		}
	}
	f.t.Cleanup(stop)
	synctest.Wait()
	return r, stop
}

func (f *fixture) events() []eventsv1.Event {
	synctest.Wait()
	list, err := f.kube.EventsV1().Events("ns").List(context.Background(), metav1.ListOptions{})
	require.NoError(f.t, err)
	return list.Items
}

func TestRecorderWritesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		r, _ := f.recorder("me")
		start := time.Now()
		r.Event("ns", "so", "CapacityLimited", "9 wanted, 8 fit", true)
		r.Event("ns", "so", "CapacityLimited", "9 wanted, 8 fit", true)
		got := f.events()
		require.Len(t, got, 1)
		require.True(t, strings.HasPrefix(got[0].Name, "so."), got[0].Name)
		got[0].Name = ""
		require.Equal(t, eventsv1.Event{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns"}, EventTime: metav1.NewMicroTime(start),
			ReportingController: "inference-scaler", ReportingInstance: "me", Action: "Scale",
			Reason: "CapacityLimited", Note: "9 wanted, 8 fit", Type: "Warning",
			Regarding: corev1.ObjectReference{APIVersion: "keda.sh/v1alpha1", Kind: "ScaledObject", Namespace: "ns", Name: "so", UID: "uid-so"},
		}, got[0])

		r.Event("ns", "so", "CapacityLimited", "10 wanted, 8 fit", true) // another note
		require.Len(t, f.events(), 2)
		time.Sleep(9*time.Minute + 59*time.Second)
		r.Event("ns", "so", "CapacityLimited", "9 wanted, 8 fit", true)
		require.Len(t, f.events(), 2)
		time.Sleep(time.Second)
		r.Event("ns", "so", "CapacityLimited", "9 wanted, 8 fit", true)
		require.Len(t, f.events(), 3)

		r.Event("ns", "unknown", "Reason", "note", false)
		r.Event("ns", "so", "Reason", strings.Repeat("ü", 2000), false)
		got = f.events()
		require.Len(t, got, 4)
		for _, e := range got {
			require.LessOrEqual(t, len(e.Note), 1024)
		}
		require.Empty(t, r.queue)
	})
}

func TestOnlyTheHolderOfTheLeaseWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		one, stop := f.recorder("one")
		two, _ := f.recorder("two")
		both := func(note string) {
			one.Event("ns", "so", "Reason", note, false)
			two.Event("ns", "so", "Reason", note, false)
		}
		both("first")
		got := f.events()
		require.Len(t, got, 1)
		require.Equal(t, "one", got[0].ReportingInstance)

		stop()
		time.Sleep(15 * time.Second) // the duration of the Lease
		both("second")
		got = f.events()
		require.Len(t, got, 2)
		require.Equal(t, "two", got[1].ReportingInstance)
	})
}

func TestRecorderOutlivesFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		refuse := func(forbidden *atomic.Bool) clienttesting.ReactionFunc {
			return func(a clienttesting.Action) (bool, runtime.Object, error) {
				return forbidden.Load(), nil, apierrors.NewForbidden(schema.GroupResource{Resource: a.GetResource().Resource}, "", errors.New("no"))
			}
		}
		var leases, writes atomic.Bool
		f.kube.PrependReactor("*", "leases", refuse(&leases))
		f.kube.PrependReactor("create", "events", refuse(&writes))
		leases.Store(true)
		r, _ := f.recorder("me")
		r.Event("ns", "so", "Reason", "dropped", false)
		require.Empty(t, f.events())
		leases.Store(false)
		time.Sleep(10 * time.Second)
		synctest.Wait()

		writes.Store(true)
		r.Event("ns", "so", "Reason", "note", false)
		require.Empty(t, f.events())
		require.Contains(t, f.log.String(), "resource=events.events.k8s.io")
		r.Event("ns", "so", "Reason", "note", false)
		require.Empty(t, f.events())
		require.Equal(t, 1, strings.Count(f.log.String(), "resource=events.events.k8s.io"), "logged once a minute")
		writes.Store(false)
		r.Event("ns", "so", "Reason", "note", false)
		require.Len(t, f.events(), 1, "an event that was not written may be queued again")
	})
}
