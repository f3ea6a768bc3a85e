package kubernetes

import (
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clienttesting "k8s.io/client-go/testing"
)

const gpu = "nvidia.com/gpu"

// onlyCounted is the template of a workload whose pods ask for nothing.
var onlyCounted = &cluster.PodTemplate{Requests: cluster.Resources{"pods": 1}, Limits: cluster.Resources{}}

func newNode(name string, gpus string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/hostname": name}},
		Status: corev1.NodeStatus{
			Allocatable: corev1.ResourceList{gpu: resource.MustParse(gpus), "cpu": resource.MustParse("3500m"), "pods": resource.MustParse("110")},
			Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	}
}

func requesting(gpus string) []corev1.Container {
	return []corev1.Container{{Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{gpu: resource.MustParse(gpus)}}}}
}

func newBound(ns, name, node, gpus string, labels map[string]string) *corev1.Pod {
	p := newPod(ns, name, labels)
	p.Spec = corev1.PodSpec{NodeName: node, Containers: requesting(gpus)}
	p.Spec.Containers[0].Resources.Requests = p.Spec.Containers[0].Resources.Limits
	return p
}

func (f *fixture) inventory() *cluster.Inventory {
	f.t.Helper()
	inv, err := f.cluster.Inventory()
	require.NoError(f.t, err)
	return inv
}

func TestInventory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asr := newDeployment("ns", "asr", 2, app("asr"))
		asr.Spec.Template = corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: requesting("2")}}
		f := newFixture(t, Options{}, newObject("ns", "so", named("asr")), asr,
			newNode("n1", "8"), newNode("n0", "4"),
			newBound("ns", "a", "n1", "2", app("asr")), newBound("other", "x", "n1", "1", app("x"))).run()
		inv := f.inventory()
		require.Len(t, inv.Nodes, 2)
		require.Equal(t, "n0", inv.Nodes[0].Name)
		require.Equal(t, cluster.Resources{gpu: 8, "cpu": 3500, "pods": 110}, inv.Nodes[1].Allocatable)
		require.Equal(t, cluster.Resources{gpu: 3, "pods": 2}, inv.Nodes[1].Held)
		require.Len(t, inv.Workloads, 1)
		require.Equal(t, cluster.Resources{gpu: 2, "pods": 1}, inv.Workloads[0].Template.Requests, "what is limited is requested")
		require.Equal(t, "n1", inv.Workloads[0].Pods[0].Node)
		require.Empty(t, inv.Autoscaler)

		require.Same(t, inv, f.inventory(), "nothing has changed")
		n0 := inv.Nodes[0]
		done := newBound("other", "x", "n1", "1", app("x"))
		done.Status.Phase = corev1.PodSucceeded
		f.apply(done)
		f.settle()
		inv = f.inventory()
		require.Equal(t, cluster.Resources{gpu: 2, "pods": 1}, inv.Nodes[1].Held, "a pod that has finished holds nothing")
		require.Same(t, n0, inv.Nodes[0], "what has not changed is the same")

		require.NoError(t, f.kube.CoreV1().Nodes().Delete(background, "n1", metav1.DeleteOptions{}))
		f.settle()
		require.Len(t, f.inventory().Nodes, 1)
		_, err := f.kube.CoreV1().Nodes().Create(background, newNode("n1", "8"), metav1.CreateOptions{})
		require.NoError(t, err)
		f.settle()
		require.Equal(t, cluster.Resources{gpu: 2, "pods": 1}, f.inventory().Nodes[1].Held, "the pods of a node that comes back are known")
	})
}

func TestInventoryOfSomeNamespaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Options{Namespaces: []string{"ns"}}, newNode("n", "8"), newBound("ns", "a", "n", "2", nil))
		f.kube.PrependReactor("list", "pods", func(a clienttesting.Action) (bool, kruntime.Object, error) {
			if a.GetNamespace() != "" {
				return false, nil, nil
			}
			require.Equal(t, "metadata.namespace!=ns", a.(clienttesting.ListAction).GetListRestrictions().Fields.String())
			return true, &corev1.PodList{Items: []corev1.Pod{*newBound("else", "x", "n", "1", nil)}}, nil
		})
		f.run()
		require.Equal(t, cluster.Resources{gpu: 3, "pods": 2}, f.inventory().Nodes[0].Held)
	})
}

func TestInventoryForbidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Options{}, newObject("ns", "so", named("asr")), newDeployment("ns", "asr", 1, app("asr")))
		var forbidden atomic.Bool
		forbidden.Store(true)
		f.kube.PrependReactor("list", "nodes", func(clienttesting.Action) (bool, kruntime.Object, error) {
			return forbidden.Load(), nil, apierrors.NewForbidden(schema.GroupResource{Resource: "nodes"}, "", errors.New("cannot list"))
		})
		f.run()
		require.True(t, f.cluster.Synced(), "all else is known")
		_, err := f.cluster.Inventory()
		require.EqualError(t, err, "nodes: not allowed to list and watch them")
		time.Sleep(5 * time.Minute)
		require.Equal(t, 1, strings.Count(f.log.String(), "GPU capacity is not fully known"), f.log.String())
		forbidden.Store(false)
		time.Sleep(2 * time.Minute) // of the bubble
		f.settle()
		require.Empty(t, f.inventory().Nodes)
	})
}

func TestClassesOfATemplate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asr := newDeployment("ns", "asr", 2, app("asr"))
		class := "kata"
		asr.Spec.Template = corev1.PodTemplateSpec{Spec: corev1.PodSpec{
			Containers: requesting("1"), RuntimeClassName: &class, PriorityClassName: "urgent",
		}}
		f := newFixture(t, Options{}, newObject("ns", "so", named("asr")), asr,
			&schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "urgent"}, Value: 1000}).run()
		require.Equal(t, int32(1000), f.inventory().Workloads[0].Template.Priority)
		f.settle()
		_, err := f.kube.NodeV1().RuntimeClasses().Create(background, &nodev1.RuntimeClass{
			ObjectMeta: metav1.ObjectMeta{Name: "kata"},
			Overhead:   &nodev1.Overhead{PodFixed: corev1.ResourceList{"cpu": resource.MustParse("250m")}},
			Scheduling: &nodev1.Scheduling{NodeSelector: map[string]string{"kata": "yes"}},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
		require.Equal(t, []string{"ns/so"}, f.settle())
		tpl := f.inventory().Workloads[0].Template
		require.Equal(t, cluster.Resources{gpu: 1, "cpu": 250, "pods": 1}, tpl.Requests)
		require.Equal(t, map[string]string{"kata": "yes"}, tpl.NodeSelector)

		// A class that comes after the template that names it.
		asr.Spec.Template.Spec.PriorityClassName = "later"
		f.apply(asr)
		f.settle()
		require.Zero(t, f.inventory().Workloads[0].Template.Priority)
		never := corev1.PreemptNever
		_, err = f.kube.SchedulingV1().PriorityClasses().Create(background, &schedulingv1.PriorityClass{
			ObjectMeta: metav1.ObjectMeta{Name: "later"}, Value: 7, PreemptionPolicy: &never,
		}, metav1.CreateOptions{})
		require.NoError(t, err)
		f.settle()
		require.Equal(t, int32(7), f.inventory().Workloads[0].Template.Priority)
		require.True(t, f.inventory().Workloads[0].Template.PreemptsNever)
	})
}

func TestQuotas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Options{}, newBound("ns", "a", "n", "2", nil), &corev1.ResourceQuota{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "q"},
			Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{
				"requests.nvidia.com/gpu": resource.MustParse("4"), "limits.cpu": resource.MustParse("2"),
				"count/pods": resource.MustParse("9"), "pods": resource.MustParse("7"),
			}},
		}).run()
		require.Equal(t, []*cluster.Quota{{
			Namespace: "ns", Name: "q",
			Requests: cluster.Resources{gpu: 4, "pods": 7}, Limits: cluster.Resources{"cpu": 2000},
			Requested: cluster.Resources{gpu: 2, "pods": 1}, Limited: cluster.Resources{gpu: 2},
		}}, f.inventory().Quotas)
		pending := newBound("ns", "b", "", "1", nil)
		f.apply(pending)
		f.settle()
		require.EqualValues(t, 3, f.inventory().Quotas[0].Requested[gpu], "a pod counts before it is bound")
	})
}

// Nodes and workloads have an index each. An inventory still shows a pod in both or in
// neither, while pods are bound and deleted.
func TestInventoryIsOfOneMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Options{}, newObject("ns", "so", named("asr")), newDeployment("ns", "asr", 1, app("asr")), newNode("n", "8")).run()
		trimmed, err := trimPod(newBound("ns", "a", "n", "2", app("asr")))
		require.NoError(t, err)
		stop := make(chan struct{})
		var seen [2]atomic.Bool // an inventory without the pod, and with it
		var readers sync.WaitGroup
		for range 2 {
			readers.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					inv, err := f.cluster.Inventory()
					if err != nil {
						t.Error(err)
						return
					}
					bound := inv.Workloads[0].Bound()
					if held := len(inv.Nodes[0].Pods); held != bound {
						t.Errorf("the node holds %d pods, the workload has %d", held, bound)
						return
					}
					seen[bound].Store(true)
				}
			})
		}
		for i := 0; (i < 1000 || !seen[0].Load() || !seen[1].Load()) && !t.Failed(); i++ {
			f.cluster.index.setPod(trimmed.(*pod))
			runtime.Gosched()
			f.cluster.index.deletePod("ns", "a")
			runtime.Gosched()
		}
		close(stop)
		readers.Wait()
	})
}
