package kubernetes

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	"github.com/stretchr/testify/require"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clienttesting "k8s.io/client-go/testing"
)

func TestWorkload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Options{},
			newObject("ns", "so", named("asr")), newDeployment("ns", "asr", 3, app("asr")),
			newPod("ns", "b", app("asr")), newPod("ns", "a", app("asr")),
			newPod("ns", "other", app("llm")), newPod("elsewhere", "c", app("asr")))

		_, err := f.cluster.Workload("ns", "so")
		require.ErrorIs(t, err, cluster.ErrNotSynced)
		_, err = f.cluster.ScaledObject("ns", "so")
		require.ErrorIs(t, err, cluster.ErrNotSynced)
		require.False(t, f.cluster.Synced())

		f.run()
		require.True(t, f.cluster.Synced())
		require.Equal(t, []string{"ns/so"}, f.settle(), "being synced changes every answer")

		w, err := f.cluster.Workload("ns", "so")
		require.NoError(t, err)
		require.Equal(t, cluster.Workload{
			Namespace: "ns", ScaledObject: "so", Kind: "Deployment", Name: "asr",
			Replicas: 3, MinReplicas: 0, MaxReplicas: 100,
			Pods: []cluster.Pod{
				{Name: "a", UID: "uid-a", Phase: "Pending"},
				{Name: "b", UID: "uid-b", Phase: "Pending"},
			},
			Template: onlyCounted,
		}, w)
		require.Error(t, f.cluster.Run(background, nil, nil), "Run is for once")
	})
}

func TestPodLifecycle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Options{}, newObject("ns", "so", named("asr")), newDeployment("ns", "asr", 1, app("asr"))).run()
		f.settle()
		step := func(p *corev1.Pod, want cluster.Pod) {
			t.Helper()
			f.apply(p)
			require.Equal(t, []string{"ns/so"}, f.settle())
			w, err := f.cluster.Workload("ns", "so")
			require.NoError(t, err)
			require.Equal(t, []cluster.Pod{want}, w.Pods)
		}
		p := newPod("ns", "a", app("asr"))
		want := cluster.Pod{Name: "a", UID: "uid-a", Phase: "Pending"}
		step(p, want)
		p.Status.PodIP, want.IP = "10.0.0.7", "10.0.0.7"
		step(p, want)
		p.Status.Phase, want.Phase = corev1.PodRunning, "Running"
		p.Status.Conditions, want.Ready = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}, true
		step(p, want)

		p.Status.HostIP = "1.2.3.4" // no code reads it
		f.apply(p)
		require.Empty(t, f.settle())

		p.DeletionTimestamp, want.Terminating = &metav1.Time{Time: time.Now()}, true
		step(p, want)
		require.NoError(t, f.kube.CoreV1().Pods("ns").Delete(background, "a", metav1.DeleteOptions{}))
		require.Equal(t, []string{"ns/so"}, f.settle())
		require.Empty(t, f.podNames("ns", "so"))
	})
}

func TestPodOfAnotherNamespaceOrApp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Options{}, newObject("ns", "so", named("asr")), newDeployment("ns", "asr", 1, app("asr"))).run()
		f.settle()
		f.apply(newPod("other", "a", app("asr")))
		f.apply(newPod("ns", "b", app("llm")))
		require.Empty(t, f.settle())

		f.apply(newPod("ns", "b", app("asr"))) // relabelled: now it matches
		require.Equal(t, []string{"ns/so"}, f.settle())
		require.Equal(t, []string{"b"}, f.podNames("ns", "so"))
		f.apply(newPod("ns", "b", app("llm"))) // and now it did
		require.Equal(t, []string{"ns/so"}, f.settle())
		require.Empty(t, f.podNames("ns", "so"))
	})
}

func TestTargetChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Options{},
			newObject("ns", "one", named("asr")), newObject("ns", "two", named("asr")), newObject("ns", "none", named("gone")),
			newDeployment("ns", "asr", 1, app("asr")), newPod("ns", "old", app("asr")), newPod("ns", "new", app("v2"))).run()
		f.settle()
		_, err := f.cluster.Workload("ns", "none")
		require.ErrorIs(t, err, cluster.ErrNotFound)
		require.ErrorContains(t, err, "scale target Deployment/gone")

		f.apply(newDeployment("ns", "asr", 5, app("asr")))
		require.Equal(t, []string{"ns/one", "ns/two"}, f.settle())
		w, err := f.cluster.Workload("ns", "two")
		require.NoError(t, err)
		require.Equal(t, 5, w.Replicas)

		d := newDeployment("ns", "asr", 5, app("asr"))
		d.Status.ReadyReplicas = 5
		f.apply(d)
		require.Empty(t, f.settle(), "its status is not read")

		require.NoError(t, f.kube.AppsV1().Deployments("ns").Delete(background, "asr", metav1.DeleteOptions{}))
		require.Equal(t, []string{"ns/one", "ns/two"}, f.settle())
		_, err = f.cluster.Workload("ns", "one")
		require.ErrorIs(t, err, cluster.ErrNotFound)
		f.apply(newPod("ns", "later", app("v2"))) // unseen while there is no selector

		f.apply(newDeployment("ns", "asr", 5, app("v2")))
		require.Equal(t, []string{"ns/one", "ns/two"}, f.settle())
		require.Equal(t, []string{"later", "new"}, f.podNames("ns", "one"))
	})
}

func TestScaledObjectChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		so := newObject("ns", "so", named("asr"))
		f := newFixture(t, Options{}, so, newDeployment("ns", "asr", 1, app("asr")), newDeployment("ns", "llm", 2, app("llm")),
			newPod("ns", "a", app("asr")), newPod("ns", "l", app("llm"))).run()
		require.Equal(t, []string{"a"}, f.podNames("ns", "so"))
		f.settle()

		so.Object["status"] = map[string]any{"lastActiveTime": "now"}
		f.apply(so)
		require.Empty(t, f.settle(), "KEDA writes the status all the time")

		so.SetAnnotations(map[string]string{"autoscaling.keda.sh/paused": "true"})
		so.Object["spec"].(map[string]any)["scaleTargetRef"] = named("llm")
		so.Object["spec"].(map[string]any)["minReplicaCount"] = int64(2)
		f.apply(so)
		require.Equal(t, []string{"ns/so"}, f.settle())
		w, err := f.cluster.Workload("ns", "so")
		require.NoError(t, err)
		require.Equal(t, cluster.Workload{
			Namespace: "ns", ScaledObject: "so", Kind: "Deployment", Name: "llm", Replicas: 2, MinReplicas: 2, MaxReplicas: 100, Paused: true,
			Pods:     []cluster.Pod{{Name: "l", UID: "uid-l", Phase: "Pending"}},
			Template: onlyCounted,
		}, w)

		objects := f.dynamic.Resource(scaledObjects).Namespace("ns")
		require.NoError(t, objects.Delete(background, "so", metav1.DeleteOptions{}))
		require.Equal(t, []string{"ns/so"}, f.settle())
		_, err = f.cluster.Workload("ns", "so")
		require.ErrorIs(t, err, cluster.ErrNotFound)
		require.ErrorContains(t, err, "ScaledObject ns/so")
		_, err = f.cluster.ScaledObject("ns", "so")
		require.ErrorIs(t, err, cluster.ErrNotFound)

		f.apply(newObject("ns", "so", named("asr")))
		require.Equal(t, []string{"ns/so"}, f.settle())
		require.Equal(t, []string{"a"}, f.podNames("ns", "so"))
	})
}

func TestBehavior(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		so := newObject("ns", "so", named("asr"))
		f := newFixture(t, Options{}, so, newObject("ns", "other", named("asr")), newDeployment("ns", "asr", 1, app("asr"))).run()
		f.settle()
		behavior := func() *autoscalingv2.HorizontalPodAutoscalerBehavior {
			w, err := f.cluster.Workload("ns", "so")
			require.NoError(t, err)
			return w.Behavior
		}
		set := func(behavior any) {
			so.Object["spec"].(map[string]any)["advanced"] = map[string]any{"horizontalPodAutoscalerConfig": map[string]any{"behavior": behavior}}
			f.apply(so)
		}
		require.Nil(t, behavior())

		set(map[string]any{"scaleDown": map[string]any{"stabilizationWindowSeconds": int64(60), "tolerance": "0"}})
		require.Equal(t, []string{"ns/so"}, f.settle())
		window := int32(60)
		require.Equal(t, window, *behavior().ScaleDown.StabilizationWindowSeconds)
		require.True(t, behavior().ScaleDown.Tolerance.IsZero())
		require.Nil(t, behavior().ScaleUp)
		f.apply(so)
		require.Empty(t, f.settle(), "the same again")

		set(map[string]any{"scaleDown": map[string]any{"stabilizationWindowSeconds": int64(60), "tolerance": "0.05"}})
		require.Equal(t, []string{"ns/so"}, f.settle())
		var readers sync.WaitGroup // the tolerance is shared (for -race)
		for range 2 {
			tolerance := behavior().ScaleDown.Tolerance
			readers.Go(func() {
				if tolerance.String() != "50m" {
					t.Error(tolerance)
				}
			})
		}
		readers.Wait()

		so.Object["spec"].(map[string]any)["minReplicaCount"] = int64(2)
		set(map[string]any{"scaleDown": "fast"})
		require.Equal(t, []string{"ns/so"}, f.settle())
		w, err := f.cluster.Workload("ns", "so")
		require.NoError(t, err, "a malformed behavior does not affect the rest")
		require.Equal(t, 2, w.MinReplicas)
		require.Nil(t, w.Behavior)
		so.Object["spec"].(map[string]any)["minReplicaCount"] = int64(3)
		set("fast")
		require.Equal(t, []string{"ns/so"}, f.settle())
		require.Nil(t, behavior())
	})
}

func TestScaledObjects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cron := newObject("a", "cron", named("x"))
		cron.Object["spec"].(map[string]any)["triggers"] = []any{map[string]any{"type": "cron"}}
		f := newFixture(t, Options{}, newObject("b", "a", named("x")), newObject("a", "z", named("x")), newObject("a", "b", named("x")), cron)
		require.Empty(t, f.cluster.ScaledObjects())
		f.run()
		var got []string
		for _, so := range f.cluster.ScaledObjects() {
			got = append(got, so.Namespace+"/"+so.Name)
			require.Equal(t, []cluster.ScaledObjectTrigger{{Push: true, Metadata: map[string]string{"engine": "vllm"}}}, so.Triggers)
		}
		require.Equal(t, []string{"a/b", "a/z", "b/a"}, got)
		so, err := f.cluster.ScaledObject("a", "cron")
		require.NoError(t, err)
		require.Empty(t, so.Triggers)
		uid, ok := f.cluster.UID("a", "cron")
		require.True(t, ok)
		require.EqualValues(t, "uid-cron", uid)
		_, ok = f.cluster.UID("b", "cron")
		require.False(t, ok)
	})
}

func TestNamespaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Options{Namespaces: []string{"b", "a", "b"}},
			newObject("a", "so", named("asr")), newObject("b", "so", named("asr")), newObject("c", "so", named("asr")),
			newDeployment("a", "asr", 1, app("asr")), newDeployment("b", "asr", 2, app("asr")),
			newPod("a", "pa", app("asr")), newPod("b", "pb", app("asr"))).run()
		require.Equal(t, []string{"a/so", "b/so"}, f.settle())
		require.Equal(t, []string{"pa"}, f.podNames("a", "so"))
		require.Equal(t, []string{"pb"}, f.podNames("b", "so"))
		_, err := f.cluster.Workload("c", "so")
		require.ErrorIs(t, err, cluster.ErrNotFound)
		require.ErrorContains(t, err, "not watched")
	})
}

func TestKEDAInstalledLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Options{}, newObject("ns", "so", named("asr")), newDeployment("ns", "asr", 1, app("asr")))
		start := time.Now()
		f.dynamic.PrependReactor("list", "scaledobjects", func(clienttesting.Action) (bool, runtime.Object, error) {
			if time.Since(start) < 3*time.Minute+time.Second {
				return true, nil, apierrors.NewGenericServerResponse(404, "list", scaledObjects.GroupResource(), "", "", 0, true)
			}
			return false, nil, nil
		})
		f.run()
		time.Sleep(3 * time.Minute) // of the bubble
		require.Empty(t, f.settle())
		require.False(t, f.cluster.Synced())
		_, err := f.cluster.Workload("ns", "so")
		require.ErrorIs(t, err, cluster.ErrNotSynced)
		log := f.log.String()
		require.Contains(t, log, "does not know this resource")
		require.LessOrEqual(t, strings.Count(log, "does not know this resource"), 3, log)

		time.Sleep(2 * time.Minute)
		require.Equal(t, []string{"ns/so"}, f.settle())
		require.True(t, f.cluster.Synced())
		require.Contains(t, f.log.String(), "synced with the cluster")
	})
}

func TestForbidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Options{Namespaces: []string{"ok", "no"}}, newObject("ok", "so", named("asr")), newDeployment("ok", "asr", 1, app("asr")))
		f.kube.PrependReactor("list", "pods", func(a clienttesting.Action) (bool, runtime.Object, error) {
			if a.GetNamespace() != "no" {
				return false, nil, nil
			}
			return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "", errors.New("cannot list"))
		})
		f.run()
		require.False(t, f.cluster.Synced())
		_, err := f.cluster.Workload("no", "so")
		require.ErrorIs(t, err, cluster.ErrNotSynced)
		require.Empty(t, f.podNames("ok", "so"), "one namespace does not blind the others")
		require.Contains(t, f.log.String(), "level=ERROR")
		require.Contains(t, f.log.String(), "resource=pods namespace=no")
		require.Contains(t, f.log.String(), `verbs="list, watch"`)
	})
}

func TestSnapshotIsKeptUntilSomethingChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		objects := []runtime.Object{newObject("ns", "so", named("asr")), newDeployment("ns", "asr", 1, app("asr"))}
		for i := range 1000 {
			objects = append(objects, newPod("ns", fmt.Sprintf("p-%04d", i), app("asr")))
		}
		f := newFixture(t, Options{}, objects...).run()
		require.Len(t, f.podNames("ns", "so"), 1000)
		require.Zero(t, testing.AllocsPerRun(100, func() {
			if _, err := f.cluster.Workload("ns", "so"); err != nil {
				t.Error(err)
			}
		}))
		f.apply(newPod("ns", "p-1000", app("asr")))
		f.settle()
		require.Len(t, f.podNames("ns", "so"), 1001)
	})
}

// Readers on many goroutines, while everything they read changes (for -race).
func TestReadWhileChanging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Options{}, newObject("ns", "so", named("asr")), newDeployment("ns", "asr", 1, app("asr"))).run()
		stop := make(chan struct{})
		var readers sync.WaitGroup
		for range 4 {
			readers.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					w, err := f.cluster.Workload("ns", "so")
					if err != nil || !slices.IsSortedFunc(w.Pods, func(a, b cluster.Pod) int { return strings.Compare(a.Name, b.Name) }) {
						t.Error(err, w.Pods)
					}
					f.cluster.ScaledObjects()
				}
			})
		}
		for i := range 100 {
			p := newPod("ns", fmt.Sprint("p-", i%10), app("asr"))
			p.Status.PodIP = fmt.Sprint("10.0.0.", i)
			f.apply(p)
			f.apply(newDeployment("ns", "asr", int32(i), app("asr")))
		}
		close(stop)
		readers.Wait()
		f.settle()
		w, err := f.cluster.Workload("ns", "so")
		require.NoError(t, err)
		require.Equal(t, 99, w.Replicas)
		require.Len(t, w.Pods, 10)
		require.Equal(t, "10.0.0.99", w.Pods[9].IP)
	})
}

func BenchmarkWorkloadAfterChange(b *testing.B) {
	c := newCluster(newFakeClients(), Options{})
	ix := c.index
	ix.markSynced("")
	so, _ := trimScaledObject(newObject("ns", "so", named("asr")))
	ix.setObject(so.(*scaledObject))
	d, _ := trimTarget(newDeployment("ns", "asr", 1, app("asr")))
	ix.setTarget(d.(*target))
	var pods [2][]*pod
	for i := range 1000 {
		for j, phase := range []corev1.PodPhase{corev1.PodPending, corev1.PodRunning} {
			p := newPod("ns", fmt.Sprintf("p-%04d", i), app("asr"))
			p.Status.Phase = phase
			o, _ := trimPod(p)
			pods[j] = append(pods[j], o.(*pod))
		}
		ix.setPod(pods[0][i])
	}
	i := 0
	for b.Loop() {
		i++
		ix.setPod(pods[(i/1000+1)%2][i%1000])
		if w, err := c.Workload("ns", "so"); err != nil || len(w.Pods) != 1000 {
			b.Fatal(err)
		}
	}
}
