package kubernetes

import (
	"errors"
	"strings"
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
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiwatch "k8s.io/apimachinery/pkg/watch"
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
		f.kube.PrependReactor("list", "pods", func(a clienttesting.Action) (bool, runtime.Object, error) {
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
		f.kube.PrependReactor("list", "nodes", func(clienttesting.Action) (bool, runtime.Object, error) {
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

// A right that is taken away is as good as one never given: what was listed before is not
// taken for what there is, and counts again once it may be read again.
func TestInventoryRightsLost(t *testing.T) {
	for _, resource := range []string{"nodes", resourceQuotas} {
		t.Run(resource, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, Options{}, newNode("gone", "8"), newNode("stays", "8"),
					&corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "q", Namespace: "ns"}})
				var forbidden, ended atomic.Bool
				f.kube.PrependReactor("list", resource, func(clienttesting.Action) (bool, runtime.Object, error) {
					return forbidden.Load(), nil, apierrors.NewForbidden(schema.GroupResource{Resource: resource}, "", errors.New("cannot list"))
				})
				watched := apiwatch.NewRaceFreeFake()
				f.kube.PrependWatchReactor(resource, func(clienttesting.Action) (bool, apiwatch.Interface, error) {
					return !ended.Load(), watched, nil
				})
				later := func(d time.Duration) {
					time.Sleep(d) // of the bubble
					f.settle()
				}
				f.apply(newPod("ns", "x", nil)) // quotas are those of namespaces that there are
				f.run()
				require.Len(t, f.inventory().Nodes, 2)
				require.Len(t, f.inventory().Quotas, 1)

				forbidden.Store(true)
				ended.Store(true)
				watched.Stop()
				require.NoError(t, f.kube.CoreV1().Nodes().Delete(background, "gone", metav1.DeleteOptions{}))
				later(time.Minute)
				require.NotContains(t, f.log.String(), "GPU capacity is not fully known", "an API server that starts may refuse everybody")
				require.Len(t, f.inventory().Quotas, 1)
				later(4 * time.Minute)
				require.Equal(t, 1, strings.Count(f.log.String(), "GPU capacity is not fully known"), f.log.String())
				if resource == resourceQuotas {
					require.Equal(t, map[string]string{"": "not allowed to list and watch them"}, f.inventory().NoQuotas)
					require.Empty(t, f.inventory().Quotas)
				} else {
					_, err := f.cluster.Inventory()
					require.EqualError(t, err, "nodes: not allowed to list and watch them")
				}

				forbidden.Store(false)
				later(5 * time.Minute)
				require.Len(t, f.inventory().Nodes, 1)
				require.Len(t, f.inventory().Quotas, 1)
				require.Empty(t, f.inventory().NoQuotas)
			})
		})
	}
}

// Quotas may be kept from it: there is room without them, and it is said. They count from
// when they may be read.
func TestInventoryWithoutQuotas(t *testing.T) {
	for _, watched := range []string{"", "ns"} {
		synctest.Test(t, func(t *testing.T) {
			o := Options{}
			if watched != "" {
				o.Namespaces = []string{watched}
			}
			f := newFixture(t, o, newNode("n", "8"), &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "q", Namespace: "ns"}})
			var forbidden atomic.Bool
			forbidden.Store(true)
			f.kube.PrependReactor("list", "resourcequotas", func(clienttesting.Action) (bool, runtime.Object, error) {
				return forbidden.Load(), nil, apierrors.NewForbidden(schema.GroupResource{Resource: "resourcequotas"}, "", errors.New("cannot list"))
			})
			f.run()
			inv := f.inventory()
			require.Len(t, inv.Nodes, 1)
			require.Equal(t, map[string]string{watched: "not allowed to list and watch them"}, inv.NoQuotas)
			time.Sleep(5 * time.Minute)
			require.Equal(t, 1, strings.Count(f.log.String(), "GPU capacity is not fully known"), f.log.String())
			forbidden.Store(false)
			time.Sleep(2 * time.Minute) // of the bubble
			f.settle()
			require.Empty(t, f.inventory().NoQuotas)
			require.Len(t, f.inventory().Quotas, 1)
		})
	}
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

func TestKarpenter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": map[string]any{"name": "gpu"},
			"spec": map[string]any{
				"limits": map[string]any{gpu: "16", "cpu": "100"},
				"template": map[string]any{
					"metadata": map[string]any{"labels": map[string]any{"team": "speech"}},
					"spec": map[string]any{
						"taints":       []any{map[string]any{"key": gpu, "effect": "NoSchedule"}},
						"requirements": []any{map[string]any{"key": "arch", "operator": "In", "values": []any{"amd64"}}},
					},
				},
			},
		}}
		ready, coming := newNode("n1", "8"), newNode("n2", "8")
		for _, n := range []*corev1.Node{ready, coming} {
			n.Labels[poolLabel] = "gpu"
		}
		ready.Labels[initializedLabel] = "true"
		f := newFixture(t, Options{}, ready, coming)
		f.dynamic.PrependReactor("list", "nodepools", func(clienttesting.Action) (bool, runtime.Object, error) {
			return true, &unstructured.UnstructuredList{Items: []unstructured.Unstructured{*pool}}, nil
		})
		f.run()
		require.Equal(t, cluster.NodeAutoscaler{Found: "Karpenter", Pools: []cluster.NodePool{{
			Name: "gpu", Labels: map[string]string{"team": "speech", poolLabel: "gpu"},
			Allowed: map[string][]string{"arch": {"amd64"}},
			Taints:  []corev1.Taint{{Key: gpu, Effect: "NoSchedule"}},
			Left:    cluster.Resources{gpu: 8, "cpu": 96500},
		}}}, f.inventory().Autoscaler)
	})
}

func TestClusterAutoscaler(t *testing.T) {
	const group = `
autoscalerStatus: Running
nodeGroups:
- name: gpu
  health:
    status: Healthy
    nodeCounts: {registered: {total: 2, ready: READY}}
    cloudProviderTarget: 2
    minSize: 0
    maxSize: MAX
`
	for _, tc := range []struct {
		status string
		want   bool
	}{
		{"nodeGroups: [{health: {nodeCounts: {registered: {ready: 2}}, cloudProviderTarget: 2, maxSize: 2}}]", true},
		{"nodeGroups: [{health: {nodeCounts: {registered: {ready: 2}}, cloudProviderTarget: 2, maxSize: 3}}]", false},
		{"nodeGroups: [{health: {nodeCounts: {registered: {ready: 1}}, cloudProviderTarget: 2, maxSize: 2}}]", false},
		{group, false},
		{"Cluster-autoscaler status at 2020: NodeGroups: Name: x", false},
		{"", false},
	} {
		require.Equal(t, tc.want, newClusterAutoscaler(tc.status).exhausted, tc.status)
	}
}

func TestAutoscalerUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloudy := newNode("n", "1")
		cloudy.Spec.ProviderID = "aws:///eu-west-1a/i-1"
		f := newFixture(t, Options{}, cloudy)
		var refused atomic.Bool
		refused.Store(true)
		f.kube.PrependReactor("get", "configmaps", func(clienttesting.Action) (bool, runtime.Object, error) {
			return refused.Load(), nil, apierrors.NewForbidden(schema.GroupResource{Resource: "configmaps"}, statusConfigMap, errors.New("no"))
		})
		var down atomic.Bool
		f.dynamic.PrependReactor("list", "nodepools", func(clienttesting.Action) (bool, runtime.Object, error) {
			return down.Load(), nil, errors.New("connection refused")
		})
		_, err := f.cluster.Inventory()
		require.ErrorIs(t, err, cluster.ErrNotSynced, "nothing is known before Run")
		f.run()
		require.Equal(t, "not allowed to get the ConfigMap kube-system/cluster-autoscaler-status", f.inventory().Autoscaler.Unknown)
		refused.Store(false)
		time.Sleep(autoscalerInterval)
		f.settle()
		require.Equal(t, "nodes of aws, whose autoscaler nothing here shows", f.inventory().Autoscaler.Found)
		down.Store(true)
		time.Sleep(2 * autoscalerInterval)
		f.settle()
		require.Equal(t, "nodes of aws, whose autoscaler nothing here shows", f.inventory().Autoscaler.Found)
		down.Store(false)
		cloudy.Spec.ProviderID = "kind://docker/kind/node"
		_, err = f.kube.CoreV1().Nodes().Update(background, cloudy, metav1.UpdateOptions{})
		require.NoError(t, err)
		f.settle()
		require.Empty(t, f.inventory().Autoscaler.Found)
	})
}

func TestUnmodelled(t *testing.T) {
	term := corev1.PodAffinityTerm{TopologyKey: "kubernetes.io/hostname", LabelSelector: &metav1.LabelSelector{MatchLabels: app("a")}}
	zone := term
	zone.TopologyKey = "topology.kubernetes.io/zone"
	anti := func(terms ...corev1.PodAffinityTerm) *corev1.Affinity {
		return &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: terms}}
	}
	for _, tc := range []struct {
		spec corev1.PodSpec
		want []string
	}{
		{corev1.PodSpec{}, nil},
		{corev1.PodSpec{Affinity: anti(term), Volumes: []corev1.Volume{{VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{}}}}}, nil},
		{corev1.PodSpec{Affinity: anti(zone)}, []string{"pod anti-affinity other than by host name and labels"}},
		{corev1.PodSpec{SchedulerName: "volcano"}, []string{"the scheduler volcano"}},
		{corev1.PodSpec{SchedulerName: "default-scheduler"}, nil},
		{corev1.PodSpec{ResourceClaims: []corev1.PodResourceClaim{{}}}, []string{"resource claims (DRA)"}},
		{corev1.PodSpec{TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{WhenUnsatisfiable: corev1.ScheduleAnyway}}}, nil},
		{corev1.PodSpec{TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{WhenUnsatisfiable: corev1.DoNotSchedule}}}, []string{"topology spread constraints"}},
		{corev1.PodSpec{Volumes: []corev1.Volume{{VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{}}}}}, []string{"volumes that bind it to nodes"}},
	} {
		require.Equal(t, tc.want, NewPodTemplate(&corev1.PodTemplateSpec{Spec: tc.spec}).Unmodelled)
	}
}

func TestPodsAreCountedAsTheSchedulerDoes(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	cpu := func(amount string) corev1.ResourceRequirements {
		return corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse(amount)}}
	}
	tpl := NewPodTemplate(&corev1.PodTemplateSpec{Spec: corev1.PodSpec{
		InitContainers: []corev1.Container{{Resources: cpu("100m"), RestartPolicy: &always}, {Resources: cpu("1")}},
		Containers:     []corev1.Container{{Resources: cpu("200m")}, {Resources: cpu("300m")}},
		Overhead:       corev1.ResourceList{"cpu": resource.MustParse("50m")},
		HostNetwork:    true,
	}})
	require.EqualValues(t, 1150, tpl.Requests["cpu"], "an init container beside the sidecar, and the overhead")
}
