package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/inference-scaler/inference-scaler/test/e2e/inference"
)

// clamped is a trigger of an ASR fleet that never asks for more than the GPUs hold.
var clamped = push("engine: lightning-asr", "hold: 1s", "gpuCapacity: clamp")

// provide gives the scenario nodes of its own with so many GPUs each, which no other's
// pods run on; the names are theirs.
func (s *scenario) provide(gpus ...int) (names []string) {
	s.Helper()
	for _, n := range gpus {
		names = append(names, s.addNode(node{group: s.namespace, gpus: n}))
	}
	return names
}

// node is one that only the pods of its group may run on.
type node struct {
	group  string
	gpus   int
	labels map[string]string
	spec   corev1.NodeSpec
}

func (s *scenario) addNode(n node) (name string) {
	s.Helper()
	name = fmt.Sprintf("%s-%d", s.namespace, len(s.nodes))
	s.nodes = append(s.nodes, name)
	amounts := corev1.ResourceList{"cpu": resource.MustParse("96"), "memory": resource.MustParse("1Ti"), "pods": resource.MustParse("110")}
	amounts["nvidia.com/gpu"] = *resource.NewQuantity(int64(n.gpus), resource.DecimalSI)
	object := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Annotations: map[string]string{"kwok.x-k8s.io/node": "fake"},
			Labels: map[string]string{corev1.LabelHostname: name, "e2e/nodes": n.group},
		},
		Spec:   n.spec,
		Status: corev1.NodeStatus{Capacity: amounts, Allocatable: amounts},
	}
	maps.Copy(object.Labels, n.labels)
	object.Spec.Taints = append(object.Spec.Taints, corev1.Taint{Key: "e2e/nodes", Value: n.group, Effect: corev1.TaintEffectNoSchedule})
	_, err := s.cluster.Kube.CoreV1().Nodes().Create(s.Context(), object, metav1.CreateOptions{})
	require.NoError(s, err)
	return name
}

// nodesReady waits until all nodes of the scenario's own are.
func (s *scenario) nodesReady() {
	s.Helper()
	s.wait("its nodes are ready", func() error {
		for _, name := range s.nodes {
			n, err := s.cluster.Kube.CoreV1().Nodes().Get(s.Context(), name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
				return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
			}) {
				return fmt.Errorf("%s is not", name)
			}
		}
		return nil
	})
}

// removeNodes takes nodes away as a cloud does whose machines are gone.
func (s *scenario) removeNodes(ctx context.Context, names ...string) {
	for _, name := range names {
		if err := s.cluster.Kube.CoreV1().Nodes().Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			s.Error(err)
		}
	}
}

// pods of the fleet, by what is to be true of them.
func (f *fleet) pods(is func(*corev1.Pod) bool) (all []*corev1.Pod) {
	pods, err := f.informers.Core().V1().Pods().Lister().Pods(f.namespace).List(labels.SelectorFromSet(labels.Set{"app": f.Name}))
	require.NoError(f, err)
	return slices.DeleteFunc(pods, func(p *corev1.Pod) bool { return !is(p) })
}

// unschedulable: the scheduler has found no node for it.
func unschedulable(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable
	})
}

// allPlaced checks, until settle is called, that no pod waits for a node.
func (f *fleet) allPlaced() (settle func()) {
	return f.never("a pod without a node", func(moment) bool { return len(f.pods(unschedulable)) > 0 })
}

// explained is the capacity in the scaler's explanation.
type explained struct {
	DemandReplicas int
	Capacity       *struct {
		Limited       bool
		Replicas      int
		Why, Observed string
	}
}

func (f *fleet) explained() (explained, error) {
	body, err := f.explanation()
	if err != nil {
		return explained{}, err
	}
	var all []explained
	if err := json.Unmarshal(body, &all); err != nil {
		return explained{}, err
	}
	if len(all) != 1 || all[0].Capacity == nil {
		return explained{}, fmt.Errorf("no capacity: %s", body)
	}
	return all[0], nil
}

// notes are those of the events of a reason on the fleet's ScaledObject.
func (f *fleet) notes(reason string) (all []string) {
	events, err := f.cluster.Kube.EventsV1().Events(f.namespace).List(f.Context(), metav1.ListOptions{})
	require.NoError(f, err)
	for _, e := range events.Items {
		if e.Reason == reason && e.Regarding.Name == f.Name {
			all = append(all, e.Note)
		}
	}
	return all
}

// A burst that asks for more than the GPUs hold gets what they hold, and no pod is left
// waiting for a node. The scaler records one event, however the load goes on.
func TestBurstBeyondCapacity(t *testing.T) {
	t.Parallel()
	s := begin(t)
	s.provide(4, 3)
	f := s.fleet(workload{Nodes: s.namespace})
	f.scale(quick{min: 1, max: 20, triggers: clamped}.String())
	settle := f.allPlaced()
	f.burst(150)
	f.atReplicas(7)
	f.ready(7)
	f.burst(10)
	f.stays(7, 10*time.Second)
	e, err := f.explained()
	require.NoError(t, err)
	require.True(t, e.Capacity.Limited)
	require.Equal(t, 7, e.Capacity.Replicas)
	require.Equal(t, 32, e.DemandReplicas, "what was asked for stays to be seen")
	s.wait("there is an event", func() error {
		if len(f.notes("CapacityLimited")) == 0 {
			return errors.New("there is none")
		}
		return nil
	})
	notes := f.notes("CapacityLimited")
	require.Equal(t, slices.Compact(slices.Sorted(slices.Values(notes))), slices.Sorted(slices.Values(notes)), "nothing is told twice")
	f.finish()
	f.atReplicas(1)
	settle()
}

// Two models that want the same GPUs get half of them each; what one gives back the
// other one takes.
func TestTwoModelsShareTheGPUs(t *testing.T) {
	t.Parallel()
	s := begin(t)
	s.provide(8)
	a := s.fleet(workload{Name: "first", Nodes: s.namespace})
	b := s.fleet(workload{Name: "second", Nodes: s.namespace})
	for _, f := range []*fleet{a, b} {
		f.scale(quick{min: 1, max: 20, triggers: clamped}.String())
	}
	settleA, settleB := a.allPlaced(), b.allPlaced()
	a.burst(12) // 3 replicas, and 1 of the other: 4 are free
	a.atReplicas(3)
	a.ready(3)
	b.burst(150)
	b.atReplicas(5)
	b.ready(5)
	a.burst(150)
	a.stays(3, 5*time.Second)
	b.finish()
	b.atReplicas(1)
	a.atReplicas(7)
	a.ready(7)
	a.finish()
	a.atReplicas(1)
	settleA()
	settleB()
}

// GPUs that a foreign pod holds are not free, until it is gone.
func TestGPUTakenByAForeignPod(t *testing.T) {
	t.Parallel()
	s := begin(t)
	s.provide(8)
	f := s.fleet(workload{Nodes: s.namespace})
	f.scale(quick{min: 1, max: 20, triggers: clamped}.String())
	foreign := foreignPod("foreign", s.namespace, 4)
	s.apply(foreign)
	s.wait("the foreign pod has a node", func() error {
		pod, err := s.cluster.Kube.CoreV1().Pods(s.namespace).Get(t.Context(), "foreign", metav1.GetOptions{})
		if err == nil && pod.Spec.NodeName == "" {
			err = errors.New("it has none")
		}
		return err
	})
	settle := f.allPlaced()
	f.burst(150)
	f.atReplicas(4)
	f.stays(4, 5*time.Second)
	require.NoError(t, s.cluster.Delete(t.Context(), s.namespace, foreign))
	f.atReplicas(8)
	f.ready(8)
	settle()
	f.finish()
	f.atReplicas(1)
}

// foreignPod belongs to no workload of the scenario. It runs on the nodes of a group.
func foreignPod(name, group string, gpus int) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %s, labels: {app: foreign}}
spec:
  nodeSelector: {e2e/nodes: %[2]s}
  tolerations: [{key: e2e/nodes, value: %[2]s}]
  terminationGracePeriodSeconds: 0
  containers: [{name: main, image: example.invalid/foreign, resources: {limits: {nvidia.com/gpu: "%d"}}}]
`, name, group, gpus)
}

// A node is lost with its pods: the answer follows what is left, and is not held up by
// the replicas that there were.
func TestNodeLost(t *testing.T) {
	t.Parallel()
	s := begin(t)
	names := s.provide(4, 4)
	f := s.fleet(workload{Nodes: s.namespace})
	f.scale(quick{min: 1, max: 20, triggers: clamped}.String())
	f.burst(150)
	f.atReplicas(8)
	f.ready(8)
	f.note("node %s is lost", names[1])
	s.removeNodes(t.Context(), names[1])
	f.atReplicas(4)
	s.wait("its pods are gone, and none waits for another node", func() error {
		if n := len(f.pods(func(p *corev1.Pod) bool { return p.Spec.NodeName != names[0] })); n > 0 {
			return fmt.Errorf("%d of %d are not on %s", n, len(f.pods(func(*corev1.Pod) bool { return true })), names[0])
		}
		return nil
	})
	f.stays(4, 5*time.Second)
	f.note("a node comes back")
	s.provide(2)
	f.atReplicas(6)
	f.ready(6)
	f.finish()
	f.atReplicas(1)
}

// A rollout of a fleet that has all the GPUs there are. The pods that end hold the GPUs
// that new pods need, and the fleet keeps its size.
func TestRolloutAtCapacity(t *testing.T) {
	t.Parallel()
	s := begin(t)
	s.provide(4)
	f := s.fleet(workload{Nodes: s.namespace, Startup: 2 * time.Second, Drain: 8 * time.Second})
	f.scale(quick{min: 1, max: 20, triggers: clamped}.String())
	stop := f.load(inference.Load{PerSecond: 10, Service: 3 * time.Second})
	f.atReplicas(4)
	f.ready(4)
	settle := f.never("other than 4 replicas", func(m moment) bool { return m.Replicas != 4 })
	f.roll("2")
	f.rolled(4)
	settle()
	stop()
	f.served()
	f.atReplicas(1)
}

// A quota leaves less than the nodes do: nothing is asked for that it would refuse.
func TestQuota(t *testing.T) {
	t.Parallel()
	s := begin(t)
	s.provide(8)
	f := s.fleet(workload{Nodes: s.namespace})
	f.scale(quick{min: 1, max: 20, triggers: clamped}.String())
	quota := "apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: gpus}\nspec: {hard: {requests.nvidia.com/gpu: \"%d\"}}\n"
	s.apply(fmt.Sprintf(quota, 3))
	s.wait("the scaler knows the quota", func() error {
		e, err := f.explained()
		if err == nil && (e.Capacity.Replicas != 3 || !strings.Contains(e.Capacity.Why, "ResourceQuota gpus allows 2 more")) {
			err = fmt.Errorf("%d: %s", e.Capacity.Replicas, e.Capacity.Why)
		}
		return err
	})
	f.burst(150)
	f.atReplicas(3)
	f.ready(3)
	f.stays(3, 5*time.Second)
	s.apply(fmt.Sprintf(quota, 5))
	f.atReplicas(5)
	f.ready(5)
	events, err := s.cluster.Kube.EventsV1().Events(s.namespace).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	for _, e := range events.Items {
		require.NotEqual(t, "FailedCreate", e.Reason, e.Note)
	}
	f.finish()
	f.atReplicas(1)
}

// The scheduler fills the reported capacity exactly: 20 random groups of nodes, with
// foreign pods on some, and fleets that are then given two replicas more than that.
func TestRoomOnTheRealScheduler(t *testing.T) {
	t.Parallel()
	s := begin(t)
	const groups = 20
	d := rand.New(rand.NewPCG(1, 20))
	fleets := make([]*fleet, groups)
	for i := range fleets {
		group := fmt.Sprintf("%s-g%d", s.namespace, i)
		var foreign strings.Builder
		for j := range 1 + d.IntN(5) {
			n := node{group: group, gpus: 1 + d.IntN(8)}
			switch d.IntN(6) {
			case 0:
				n.spec.Unschedulable = true
			case 1:
				n.spec.Taints = []corev1.Taint{{Key: "maintenance", Effect: corev1.TaintEffectNoSchedule}}
			}
			s.addNode(n)
			foreign.WriteString("---\n" + foreignPod(fmt.Sprintf("g%d-%d", i, j), group, 1+d.IntN(2)))
		}
		s.apply(foreign.String())
		fleets[i] = s.resting(workload{Name: fmt.Sprintf("w%d", i), Nodes: group, GPUs: 1 + d.IntN(3)})
	}
	s.wait("the scheduler has looked at all foreign pods", func() error {
		pods, err := s.informers.Core().V1().Pods().Lister().Pods(s.namespace).List(labels.SelectorFromSet(labels.Set{"app": "foreign"}))
		if err != nil {
			return err
		}
		for _, p := range pods {
			if p.Spec.NodeName == "" && !unschedulable(p) {
				return fmt.Errorf("not at %s", p.Name)
			}
			if p.Spec.NodeName == "" { // it would take what comes free
				err = errors.Join(err, s.cluster.Kube.CoreV1().Pods(s.namespace).Delete(t.Context(), p.Name, metav1.DeleteOptions{}))
			}
		}
		return err
	})
	s.nodesReady()
	s.pause(2 * time.Second) // until the scaler has observed it, and reports it
	rooms, some := make([]int, groups), 0
	for i, f := range fleets {
		f.wait("the scaler says what there is room for", func() error {
			e, err := f.explained()
			if err == nil {
				rooms[i] = e.Capacity.Replicas
			}
			return err
		})
		if rooms[i] > 0 {
			some++
		}
		f.scaleTo(rooms[i] + 2)
	}
	for i, f := range fleets {
		f.wait(fmt.Sprintf("the scheduler has placed %d, and not 2 more", rooms[i]), func() error {
			placed, left := len(f.pods(func(p *corev1.Pod) bool { return p.Spec.NodeName != "" })), len(f.pods(unschedulable))
			if placed != rooms[i] || left != 2 {
				return fmt.Errorf("%d placed, %d left, of room for %d", placed, left, rooms[i])
			}
			return nil
		})
	}
	t.Logf("room for %v replicas, and as many placed", rooms)
	require.Greater(t, some, groups/4)
}

// resting makes a fleet without replicas, and a ScaledObject that KEDA does not follow.
func (s *scenario) resting(w workload) *fleet {
	s.Helper()
	f := s.fleet(w)
	f.declare(`autoscaling.keda.sh/paused: "true"`, quick{max: 100, triggers: clamped}.String())
	return f
}

// An autoscaler that reports how much it can still add gets exactly as many waiting
// pods. It adds nodes, and the answer follows them without a dip.
func TestNodesAreAdded(t *testing.T) {
	t.Parallel()
	s := begin(t)
	const limit, perNode = 10, 4
	pool := karpenterPool(s.namespace, limit)
	s.apply(nodePoolCRD)
	s.wait("the API server knows NodePools", func() error { return s.cluster.Apply(t.Context(), s.namespace, pool) })
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = s.cluster.Delete(ctx, s.namespace, pool)
	})
	s.addNode(node{group: s.namespace, gpus: 2, labels: ofPool(s.namespace, true)})
	f := s.fleet(workload{Nodes: s.namespace})
	f.scale(quick{min: 1, max: 20, triggers: push("engine: lightning-asr", "hold: 1s", "gpuCapacity: auto")}.String())
	s.wait("the scaler knows the pool", func() error {
		e, err := f.explained()
		if err == nil && e.Capacity.Replicas != limit {
			err = fmt.Errorf("room for %d, %s%s", e.Capacity.Replicas, e.Capacity.Why, e.Capacity.Observed)
		}
		return err
	})
	settle := f.never("more than what may be added", func(m moment) bool { return m.Replicas > limit })
	f.burst(150)
	f.atReplicas(limit)
	steady := f.never("a dip while nodes are on their way", func(m moment) bool { return m.Replicas < limit })
	for added := 2; added < limit; added += perNode {
		s.wait("pods wait for a node", func() error {
			if len(f.pods(unschedulable)) == 0 {
				return errors.New("none does")
			}
			return nil
		})
		name := s.addNode(node{group: s.namespace, labels: ofPool(s.namespace, false)})
		f.note("node %s is made", name)
		s.pause(3 * time.Second) // its GPUs are found late
		s.finishNode(name, perNode)
		f.note("node %s is ready for work", name)
	}
	f.ready(limit)
	steady()
	f.finish()
	f.atReplicas(1)
	settle()
}

// nodePoolCRD is Karpenter's, as far as it is read here.
const nodePoolCRD = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: nodepools.karpenter.sh}
spec:
  group: karpenter.sh
  scope: Cluster
  names: {kind: NodePool, listKind: NodePoolList, plural: nodepools, singular: nodepool}
  versions:
    - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
`

func karpenterPool(group string, gpus int) string {
	return fmt.Sprintf(`apiVersion: karpenter.sh/v1
kind: NodePool
metadata: {name: %[1]s}
spec:
  limits: {nvidia.com/gpu: %[2]d}
  template:
    metadata: {labels: {e2e/nodes: %[1]s}}
    spec:
      taints: [{key: e2e/nodes, value: %[1]s, effect: NoSchedule}]
      requirements: [{key: kubernetes.io/os, operator: In, values: [linux]}]
`, group, gpus)
}

func ofPool(name string, initialized bool) map[string]string {
	return map[string]string{"karpenter.sh/nodepool": name, "karpenter.sh/initialized": strconv.FormatBool(initialized)}
}

// finishNode is what the device plugin and Karpenter do once the node is up.
func (s *scenario) finishNode(name string, gpus int) {
	s.Helper()
	nodes := s.cluster.Kube.CoreV1().Nodes()
	status := fmt.Sprintf(`{"status":{"capacity":{"nvidia.com/gpu":"%[1]d"},"allocatable":{"nvidia.com/gpu":"%[1]d"}}}`, gpus)
	_, err := nodes.Patch(s.Context(), name, types.StrategicMergePatchType, []byte(status), metav1.PatchOptions{}, "status")
	require.NoError(s, err)
	_, err = nodes.Patch(s.Context(), name, types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"karpenter.sh/initialized":"true"}}}`), metav1.PatchOptions{})
	require.NoError(s, err)
}

// scaleTo gives the workload replicas as somebody with kubectl would.
func (f *fleet) scaleTo(n int) {
	f.Helper()
	patch := fmt.Sprintf(`{"spec":{"replicas":%d}}`, n)
	_, err := f.cluster.Kube.AppsV1().Deployments(f.namespace).Patch(f.Context(), f.Name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	require.NoError(f, err)
}
