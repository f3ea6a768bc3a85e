package kubernetes

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	"github.com/stretchr/testify/require"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clienttesting "k8s.io/client-go/testing"
)

var (
	rollout  = schema.GroupVersionKind{Group: "argoproj.io", Version: "v1alpha1", Kind: "Rollout"}
	rollouts = schema.GroupResource{Group: "argoproj.io", Resource: "rollouts"}
)

func rolloutNamed(name string) map[string]any {
	return map[string]any{"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": name}
}

// fakeScale answers every read of a scale subresource, and counts them.
type fakeScale struct {
	mu       sync.Mutex
	err      error
	replicas int32
	selector string
	reads    int
}

func (s *fakeScale) answer(replicas int32, selector string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replicas, s.selector, s.err = replicas, selector, err
}

func (s *fakeScale) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads
}

func (s *fakeScale) react(a clienttesting.Action) (bool, runtime.Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	if s.err != nil {
		return true, nil, s.err
	}
	return true, &autoscalingv1.Scale{
		Spec:   autoscalingv1.ScaleSpec{Replicas: s.replicas},
		Status: autoscalingv1.ScaleStatus{Selector: s.selector},
	}, nil
}

func newScaleFixture(t *testing.T, s *fakeScale, objects ...runtime.Object) *fixture {
	f := newFixture(t, Options{}, objects...)
	f.scales.AddReactor("get", "rollouts", s.react)
	return f
}

func TestCustomKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeScale{replicas: 2, selector: "app=asr"}
		f := newScaleFixture(t, s, newObject("ns", "so", rolloutNamed("asr")), newPod("ns", "a", app("asr")), newPod("ns", "l", app("llm")))
		f.mapper.learn(rollout)
		f.mapper.Reset()
		f.run()
		f.settle()
		want := cluster.Workload{
			Namespace: "ns", ScaledObject: "so", Kind: "Rollout", Name: "asr", Replicas: 2, MaxReplicas: 100,
			Pods: []cluster.Pod{{Name: "a", UID: "uid-a", Phase: "Pending"}},
		}
		w, err := f.cluster.Workload("ns", "so")
		require.NoError(t, err)
		require.Equal(t, want, w)

		s.answer(4, "app=llm", nil)
		require.Empty(t, f.settle())
		time.Sleep(5 * time.Second)
		require.Equal(t, []string{"ns/so"}, f.settle())
		require.Equal(t, []string{"l"}, f.podNames("ns", "so"))
		time.Sleep(5 * time.Second)
		require.Empty(t, f.settle(), "read again, found the same")

		s.answer(0, "", errors.New("dial tcp: i/o timeout"))
		time.Sleep(time.Minute)
		require.Empty(t, f.settle())
		require.Equal(t, []string{"l"}, f.podNames("ns", "so"), "the last known values remain in use")
		require.Equal(t, 1, strings.Count(f.log.String(), "its last known values remain in use"))
		s.answer(4, "app=llm", nil)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		require.Contains(t, f.log.String(), "can be read again")

		s.answer(0, "", apierrors.NewNotFound(rollouts, "asr"))
		time.Sleep(5 * time.Second)
		require.Equal(t, []string{"ns/so"}, f.settle())
		_, err = f.cluster.Workload("ns", "so")
		require.ErrorIs(t, err, cluster.ErrNotFound)
		require.ErrorContains(t, err, "scale target Rollout/asr")
		s.answer(0, "", errors.New("dial tcp: i/o timeout"))
		time.Sleep(5 * time.Second)
		require.Empty(t, f.settle(), "a target that does not exist is a result, too")

		require.NoError(t, f.dynamic.Resource(scaledObjects).Namespace("ns").Delete(background, "so", metav1.DeleteOptions{}))
		require.Equal(t, []string{"ns/so"}, f.settle())
		reads := s.count()
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, reads, s.count(), "nobody names it any more")
	})
}

// A pod that is created or deleted shows a changed scale before the interval ends.
func TestCustomKindIsReadAgainWhenAPodComesOrGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeScale{selector: "app=asr"}
		f := newScaleFixture(t, s, newObject("ns", "so", rolloutNamed("asr")))
		f.mapper.learn(rollout)
		f.mapper.Reset()
		f.run()
		f.settle()
		time.Sleep(time.Second)
		replicas := func() int {
			w, err := f.cluster.Workload("ns", "so")
			require.NoError(t, err)
			return w.Replicas
		}
		s.answer(1, "app=asr", nil)
		f.apply(newPod("ns", "other", app("llm")))
		f.settle()
		require.Zero(t, replicas())
		f.apply(newPod("ns", "a", app("asr")))
		f.settle()
		require.Equal(t, 1, replicas(), "no time has passed")
		reads := s.count()
		ready := newPod("ns", "a", app("asr"))
		ready.Status.Phase = corev1.PodRunning
		f.apply(ready)
		f.settle()
		require.Equal(t, reads, s.count(), "a pod that changes is no reason")
		s.answer(0, "app=asr", nil)
		require.NoError(t, f.kube.CoreV1().Pods("ns").Delete(background, "a", metav1.DeleteOptions{}))
		f.settle()
		require.Zero(t, replicas())
	})
}

func TestCustomKindReadAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeScale{replicas: 2, selector: "app=asr"}
		f := newScaleFixture(t, s).run()
		f.mapper.learn(rollout)
		f.apply(newObject("ns", "so", rolloutNamed("asr")))
		require.Equal(t, []string{"ns/so"}, f.settle(), "no time has passed")
		w, err := f.cluster.Workload("ns", "so")
		require.NoError(t, err)
		require.Equal(t, 2, w.Replicas)

		f.apply(newObject("ns", "so", named("asr"))) // now a Deployment, which does not exist
		require.Equal(t, []string{"ns/so"}, f.settle())
		_, err = f.cluster.Workload("ns", "so")
		require.ErrorIs(t, err, cluster.ErrNotFound)
		require.Empty(t, f.cluster.index.namespaces["ns"].targets)
	})
}

func TestCustomKindInstalledLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeScale{replicas: 2, selector: "app=asr"}
		f := newScaleFixture(t, s, newObject("ns", "so", rolloutNamed("asr"))).run()
		_, err := f.cluster.Workload("ns", "so")
		require.ErrorIs(t, err, cluster.ErrNotFound)
		require.ErrorContains(t, err, `no matches for kind "Rollout"`)

		f.mapper.learn(rollout)
		time.Sleep(25 * time.Second)
		synctest.Wait()
		require.Equal(t, 1, f.mapper.resetCount(), "discovery is dear")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.Equal(t, 2, f.mapper.resetCount())
		w, err := f.cluster.Workload("ns", "so")
		require.NoError(t, err)
		require.Equal(t, 2, w.Replicas)
	})
}

func TestCustomKindUnknownYet(t *testing.T) {
	for _, tc := range []struct {
		name  string
		scale *fakeScale
		want  string
	}{
		{"forbidden", &fakeScale{err: apierrors.NewForbidden(rollouts, "asr", errors.New("no"))}, "forbidden"},
		{"no selector", &fakeScale{replicas: 1}, "no status.selector"},
		{"bad selector", &fakeScale{replicas: 1, selector: "a in ("}, "status.selector"},
		{"no scale subresource", &fakeScale{err: apierrors.NewGenericServerResponse(404, "get", rollouts, "asr", "404 page not found", 0, true)}, "no such path"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newScaleFixture(t, tc.scale, newObject("ns", "so", rolloutNamed("asr")), newPod("ns", "a", app("asr")))
				f.mapper.learn(rollout)
				f.run()
				require.True(t, f.cluster.Synced())
				_, err := f.cluster.Workload("ns", "so")
				require.ErrorIs(t, err, cluster.ErrNotSynced)
				require.NotErrorIs(t, err, cluster.ErrNotFound)
				require.ErrorContains(t, err, tc.want)
				require.Contains(t, f.log.String(), tc.want)
			})
		})
	}
}
