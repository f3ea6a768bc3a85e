package kubernetes

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clienttesting "k8s.io/client-go/testing"
)

// recorder starts a replica's Recorder; stop returns after Run has.
func (f *fixture) recorder(identity string) (r *Recorder, stop func()) {
	r, err := f.cluster.NewRecorder(RecorderOptions{Namespace: "system", Identity: identity})
	require.NoError(f.t, err)
	ctx, cancel := context.WithCancel(background)
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stopped := false
	stop = func() {
		if cancel(); !stopped {
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
	list, err := f.kube.EventsV1().Events("ns").List(background, metav1.ListOptions{})
	require.NoError(f.t, err)
	return list.Items
}

func TestRecorderWritesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Options{}, newObject("ns", "so", named("asr"))).run()
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

func TestRecorderLeadership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Options{}, newObject("ns", "so", named("asr"))).run()
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
		require.False(t, one.holdsLease())
		time.Sleep(leaseDuration)
		both("second")
		got = f.events()
		require.Len(t, got, 2)
		require.Equal(t, "two", got[1].ReportingInstance)
	})
}

func TestRecorderOutlivesFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Options{}, newObject("ns", "so", named("asr"))).run()
		var forbidden atomic.Bool
		forbidden.Store(true)
		refuse := func(a clienttesting.Action) (bool, runtime.Object, error) {
			if !forbidden.Load() {
				return false, nil, nil
			}
			return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: a.GetResource().Resource}, "", errors.New("no"))
		}
		f.kube.PrependReactor("*", "leases", refuse)
		r, _ := f.recorder("me")
		time.Sleep(50 * time.Second)
		synctest.Wait()
		require.False(t, r.holdsLease())
		require.Equal(t, 1, strings.Count(f.log.String(), "verb=get resource=leases.coordination.k8s.io"), f.log)
		r.Event("ns", "so", "Reason", "dropped", false)
		require.Empty(t, f.events())

		forbidden.Store(false)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.True(t, r.holdsLease())

		forbidden.Store(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.False(t, r.holdsLease(), "a Lease that cannot be renewed is lost")
		forbidden.Store(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.True(t, r.holdsLease())

		var denied atomic.Bool
		denied.Store(true)
		f.kube.PrependReactor("create", "events", func(a clienttesting.Action) (bool, runtime.Object, error) {
			return denied.Load(), nil, apierrors.NewForbidden(schema.GroupResource{Resource: "events"}, "", errors.New("no"))
		})
		r.Event("ns", "so", "Reason", "note", false)
		require.Empty(t, f.events())
		require.Contains(t, f.log.String(), "resource=events.events.k8s.io")
		denied.Store(false)
		r.Event("ns", "so", "Reason", "note", false)
		require.Len(t, f.events(), 1, "an event that was not written may be asked for again")
	})
}

func TestRecorderNeedsIdentity(t *testing.T) {
	_, err := newCluster(clients{}, Options{}).NewRecorder(RecorderOptions{Namespace: "system"})
	require.ErrorContains(t, err, "identity")
}
