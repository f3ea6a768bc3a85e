package scheduler

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	fwk "k8s.io/kube-scheduler/framework"
	internalcache "k8s.io/kubernetes/pkg/scheduler/backend/cache"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/names"
	"k8s.io/kubernetes/pkg/scheduler/framework/runtime"
	"k8s.io/kubernetes/pkg/scheduler/metrics"
	schedulertesting "k8s.io/kubernetes/pkg/scheduler/testing/framework"

	"github.com/inference-scaler/inference-scaler/metricsource/kubernetes/inventory"
	"github.com/inference-scaler/inference-scaler/scaler/capacity"
)

// clusters is how many are compared.
const clusters = 1000

// TestAllocationEqualsWhatTheSchedulerPlaces generates clusters. The scheduler's own filters
// place pods of the workload one by one, each on any node that passes, until no node does.
// Their number must equal that of the plan.
func TestAllocationEqualsWhatTheSchedulerPlaces(t *testing.T) {
	s := newScheduler(t)
	some, limits := 0, map[int]int{}
	for seed := range uint64(clusters) {
		d := draw{rand.New(rand.NewPCG(seed, 5))}
		c := d.scenario()
		workload := counted(c)
		if workload.Device.PerReplica == 0 {
			continue // drawn as an init container's, which is no one's device
		}
		allocation, _ := (&capacity.Planner{}).Plan(inventoryOf(c), []capacity.Workload{workload}).Allocation(namespace, "so")
		placed := s.fill(t, d, c, workload)
		require.Equal(t, placed, allocation.Replicas-allocation.Bound, "seed %d: the scheduler placed %d, the plan counted %s", seed, placed, allocation)
		if placed > 0 {
			some++
		}
		limits[min(placed, 3)]++
	}
	t.Logf("%d clusters, %d of them with free capacity; by pods placed (3: 3 or more): %v", clusters, some, limits)
	require.Greater(t, some, clusters/4)
}

// counted is the workload as the product sees it.
func counted(c *scenario) capacity.Workload {
	template := &inventory.NewTemplate(&c.template).PodTemplate
	w := capacity.Workload{
		Workload: &cluster.Workload{Namespace: namespace, ScaledObject: "so", Template: template},
		Device:   capacity.DeviceOf(template, "", 0),
	}
	for _, p := range c.pods {
		if p.Namespace == namespace && p.Labels["app"] == "own" {
			w.Pods = append(w.Pods, cluster.Pod{Name: p.Name, Phase: "Running", Node: p.Spec.NodeName, Terminating: p.DeletionTimestamp != nil})
		}
	}
	return w
}

func inventoryOf(c *scenario) *cluster.Inventory {
	inv := &cluster.Inventory{}
	for _, n := range c.nodes {
		var bound []*cluster.BoundPod
		for _, p := range c.pods {
			if p.Spec.NodeName == n.Name {
				bound = append(bound, inventory.NewBoundPod(p))
			}
		}
		inv.Nodes = append(inv.Nodes, inventory.NewNode(inventory.NewNodeSpec(n), bound))
	}
	return inv
}

// scheduler runs the filters of kube-scheduler's default profile that look at what is
// counted.
type scheduler struct {
	framework framework.Framework
	lister    *lister
}

// lister is of whichever cluster is looked at.
type lister struct{ fwk.SharedLister }

func newScheduler(t *testing.T) *scheduler {
	metrics.Register()
	namespaces := fake.NewClientset(
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "elsewhere"}})
	factory := informers.NewSharedInformerFactory(namespaces, 0)
	registry := plugins.NewInTreeRegistry()
	use := []schedulertesting.RegisterPluginFunc{
		schedulertesting.RegisterQueueSortPlugin(names.PrioritySort, registry[names.PrioritySort]),
		schedulertesting.RegisterBindPlugin(names.DefaultBinder, registry[names.DefaultBinder]),
	}
	for _, name := range []string{names.NodeUnschedulable, names.NodeName, names.TaintToleration} {
		use = append(use, schedulertesting.RegisterFilterPlugin(name, registry[name]))
	}
	for _, name := range []string{names.NodeAffinity, names.NodePorts, names.NodeResourcesFit, names.InterPodAffinity} {
		use = append(use, schedulertesting.RegisterPluginAsExtensions(name, registry[name], "PreFilter", "Filter"))
	}
	s := &scheduler{lister: &lister{internalcache.NewEmptySnapshot()}}
	var err error
	s.framework, err = schedulertesting.NewFramework(t.Context(), use, corev1.DefaultSchedulerName,
		runtime.WithSnapshotSharedLister(s.lister), runtime.WithInformerFactory(factory), runtime.WithClientSet(namespaces))
	require.NoError(t, err)
	factory.Start(t.Context().Done())
	factory.WaitForCacheSync(t.Context().Done())
	return s
}

// fill places pods of the template while it can, and returns how many it did.
func (s *scheduler) fill(t *testing.T, d draw, c *scenario, workload capacity.Workload) int {
	pods := append([]*corev1.Pod(nil), c.pods...)
	for placed := 0; ; placed++ {
		require.Less(t, placed, 1000)
		snapshot := internalcache.NewSnapshot(pods, c.nodes)
		s.lister.SharedLister = snapshot
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("new-%d", placed), UID: "n", Labels: c.template.Labels}}
		c.template.Spec.DeepCopyInto(&pod.Spec)
		// As admission does (ExtendedResourceToleration) where nodes have such taints.
		pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{Key: workload.Device.Resource, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule})
		feasible := s.feasible(t.Context(), t, pod, snapshot)
		if len(feasible) == 0 {
			return placed
		}
		pod.Spec.NodeName = feasible[d.IntN(len(feasible))]
		pods = append(pods, pod)
	}
}

func (s *scheduler) feasible(ctx context.Context, t *testing.T, pod *corev1.Pod, snapshot *internalcache.Snapshot) (nodes []string) {
	state := framework.NewCycleState()
	only, status, _ := s.framework.RunPreFilterPlugins(ctx, state, pod)
	require.True(t, status.IsSuccess() || status.IsRejected(), status.AsError())
	if !status.IsSuccess() {
		return nil
	}
	infos, err := snapshot.NodeInfos().List()
	require.NoError(t, err)
	for _, info := range infos {
		// Pods that tolerate it go on a node that is not ready, too, and do not run there.
		if !ready(info.Node()) || !only.AllNodes() && !only.NodeNames.Has(info.Node().Name) {
			continue
		}
		if s.framework.RunFilterPlugins(ctx, state, pod, info).IsSuccess() {
			nodes = append(nodes, info.Node().Name)
		}
	}
	return nodes
}

func ready(n *corev1.Node) bool { return n.Status.Conditions[0].Status == corev1.ConditionTrue }
