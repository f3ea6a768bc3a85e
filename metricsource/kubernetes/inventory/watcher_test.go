package inventory

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	"github.com/inference-scaler/inference-scaler/metricsource/kubernetes/logtest"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	kubefake "k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

const gpu = "nvidia.com/gpu"

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

var background = context.Background()

// fixture is a Watcher over client-go's fakes, in a synctest bubble. Like a Cluster, it
// passes the pods to the Watcher.
type fixture struct {
	t       *testing.T
	kube    *kubefake.Clientset
	dynamic *dynamicfake.FakeDynamicClient
	log     logtest.Buffer
	watcher *Watcher
	changes atomic.Int32 // calls of OnChange
	classes atomic.Int32 // calls of OnClasses
}

func newFixture(t *testing.T, namespaces []string, objects ...runtime.Object) *fixture {
	f := &fixture{
		t: t, kube: kubefake.NewSimpleClientset(objects...),
		dynamic: dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(),
			map[schema.GroupVersionResource]string{nodePools: "NodePoolList"}),
	}
	f.watcher = New(Options{
		Kube: f.kube, Dynamic: f.dynamic, Namespaces: namespaces, Logger: slog.New(slog.NewTextHandler(&f.log, nil)),
		OnChange: func() { f.changes.Add(1) }, OnClasses: func() { f.classes.Add(1) },
	})
	return f
}

// run starts the Watcher; it ends with the test.
func (f *fixture) run() *fixture {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.watcher.Run(ctx) }()
	f.t.Cleanup(func() {
		cancel()
		require.NoError(f.t, <-done)
	})
	f.settle()
	return f
}

// settle waits until everything that happened was seen, and returns the number of calls of
// OnChange since the last time.
func (f *fixture) settle() int {
	synctest.Wait()
	return int(f.changes.Swap(0))
}

func (f *fixture) build() (*cluster.Inventory, error) {
	return f.watcher.Build(nil, func(string) bool { return true })
}

func (f *fixture) inventory() *cluster.Inventory {
	f.t.Helper()
	inv, err := f.build()
	require.NoError(f.t, err)
	return inv
}

func (f *fixture) setPod(p *corev1.Pod) {
	out := NewPod(p)
	f.watcher.SetPod(&out)
	f.watcher.Notify()
}

func newBound(ns, name, node, gpus string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Spec: corev1.PodSpec{NodeName: node, Containers: requesting(gpus)}}
	p.Spec.Containers[0].Resources.Requests = p.Spec.Containers[0].Resources.Limits
	return p
}

func TestNodesAndTheirPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, []string{""}, newNode("n1", "8"))
		_, err := f.build()
		require.ErrorIs(t, err, cluster.ErrNotSynced)
		f.setPod(newBound("ns", "a", "n1", "2"))
		f.run()
		inv := f.inventory()
		require.Equal(t, cluster.Resources{gpu: 2, "pods": 1}, inv.Nodes[0].Held, "a pod may be known before its node")
		current, err := f.watcher.Current()
		require.NoError(t, err)
		require.Same(t, inv, current)

		heartbeat := newNode("n1", "8")
		heartbeat.Status.Conditions[0].LastHeartbeatTime = metav1.Now()
		_, err = f.kube.CoreV1().Nodes().UpdateStatus(background, heartbeat, metav1.UpdateOptions{})
		require.NoError(t, err)
		require.Zero(t, f.settle(), "a heartbeat changes nothing")
		f.setPod(newBound("ns", "a", "n1", "2"))
		require.Zero(t, f.settle(), "nor does an update of a pod that holds the same")

		f.setPod(newBound("ns", "a", "n2", "2"))
		require.Equal(t, 1, f.settle())
		current, err = f.watcher.Current()
		require.NoError(t, err)
		require.Nil(t, current, "the inventory is outdated")
		require.Empty(t, f.inventory().Nodes[0].Pods)
		f.watcher.DeletePod("ns", "a")
		f.watcher.Notify()
		require.Equal(t, 1, f.settle())
		f.watcher.Notify()
		require.Zero(t, f.settle(), "each change is reported once")
	})
}

func TestQuotaCountsUnfinishedPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, []string{""}, &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "q"}}).run()
		p := newBound("ns", "a", "", "2")
		f.setPod(p)
		require.Equal(t, 1, f.settle(), "a pod counts before it is bound")
		require.Equal(t, cluster.Resources{gpu: 2, "pods": 1}, f.inventory().Quotas[0].Requested)
		p.Status.Phase = corev1.PodFailed
		f.setPod(p)
		require.Equal(t, 1, f.settle())
		require.Empty(t, f.inventory().Quotas[0].Requested)
		f.setPod(newBound("other", "a", "", "2"))
		require.Zero(t, f.settle(), "its namespace has no quota")

		f.watcher.Invalidate()
		inv, err := f.watcher.Build(nil, func(string) bool { return false })
		require.NoError(t, err)
		require.Empty(t, inv.Quotas, "the pods of the namespace are not all known")
	})
}

func TestClassesAreReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, []string{""}).run()
		tpl := NewTemplate(&corev1.PodTemplateSpec{Spec: corev1.PodSpec{PriorityClassName: "urgent"}})
		require.Zero(t, f.watcher.Resolve(tpl).Priority)
		classes := f.kube.SchedulingV1().PriorityClasses()
		_, err := classes.Create(background, &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "urgent"}, Value: 1000}, metav1.CreateOptions{})
		require.NoError(t, err)
		f.settle()
		require.EqualValues(t, 1, f.classes.Swap(0))
		require.EqualValues(t, 1000, f.watcher.Resolve(tpl).Priority)
		require.NoError(t, classes.Delete(background, "urgent", metav1.DeleteOptions{}))
		f.settle()
		require.EqualValues(t, 1, f.classes.Swap(0))
		require.Zero(t, f.watcher.Resolve(tpl).Priority)
	})
}

// After a right was revoked, the last listing is not used. After it was granted again, the
// resource is known again.
func TestInventoryRightsLost(t *testing.T) {
	for _, resource := range []string{"nodes", resourceQuotas} {
		t.Run(resource, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, []string{""}, newNode("gone", "8"), newNode("stays", "8"),
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
					_, err := f.build()
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

// Without the right to list quotas, the inventory has the reason in their place.
func TestInventoryWithoutQuotas(t *testing.T) {
	for _, watched := range []string{"", "ns"} {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t, []string{watched}, newNode("n", "8"), &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "q", Namespace: "ns"}})
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
		f := newFixture(t, []string{""}, ready, coming)
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
		f := newFixture(t, []string{""}, cloudy)
		var refused atomic.Bool
		refused.Store(true)
		f.kube.PrependReactor("get", "configmaps", func(clienttesting.Action) (bool, runtime.Object, error) {
			return refused.Load(), nil, apierrors.NewForbidden(schema.GroupResource{Resource: "configmaps"}, statusConfigMap, errors.New("no"))
		})
		var down atomic.Bool
		f.dynamic.PrependReactor("list", "nodepools", func(clienttesting.Action) (bool, runtime.Object, error) {
			return down.Load(), nil, errors.New("connection refused")
		})
		_, err := f.build()
		require.ErrorIs(t, err, cluster.ErrNotSynced, "nothing is known before Run")
		f.run()
		require.Equal(t, "not allowed to get the ConfigMap kube-system/cluster-autoscaler-status", f.inventory().Autoscaler.Unknown)
		refused.Store(false)
		time.Sleep(autoscalerInterval)
		f.settle()
		require.Equal(t, "nodes of aws, whose autoscaler is not visible", f.inventory().Autoscaler.Found)
		down.Store(true)
		time.Sleep(2 * autoscalerInterval)
		f.settle()
		require.Equal(t, "nodes of aws, whose autoscaler is not visible", f.inventory().Autoscaler.Found)
		down.Store(false)
		cloudy.Spec.ProviderID = "kind://docker/kind/node"
		_, err = f.kube.CoreV1().Nodes().Update(background, cloudy, metav1.UpdateOptions{})
		require.NoError(t, err)
		f.settle()
		require.Empty(t, f.inventory().Autoscaler.Found)
	})
}

func TestUnmodelled(t *testing.T) {
	term := corev1.PodAffinityTerm{TopologyKey: "kubernetes.io/hostname", LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "a"}}}
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
		require.Equal(t, tc.want, NewTemplate(&corev1.PodTemplateSpec{Spec: tc.spec}).Unmodelled)
	}
}

func TestPodsAreCountedAsTheSchedulerDoes(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	cpu := func(amount string) corev1.ResourceRequirements {
		return corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse(amount)}}
	}
	tpl := NewTemplate(&corev1.PodTemplateSpec{Spec: corev1.PodSpec{
		InitContainers: []corev1.Container{{Resources: cpu("100m"), RestartPolicy: &always}, {Resources: cpu("1")}},
		Containers:     []corev1.Container{{Resources: cpu("200m")}, {Resources: cpu("300m")}},
		Overhead:       corev1.ResourceList{"cpu": resource.MustParse("50m")},
		HostNetwork:    true,
	}})
	require.EqualValues(t, 1150, tpl.Requests["cpu"], "an init container beside the sidecar, and the overhead")
}
