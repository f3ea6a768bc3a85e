package scheduler

import (
	"fmt"
	"math/rand/v2"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	namespace = "ns"
	gpu       = "nvidia.com/gpu"
)

// scenario is a random cluster: nodes, pods that are bound to them, and the template of a
// workload that some of these belong to.
type scenario struct {
	nodes    []*corev1.Node
	pods     []*corev1.Pod
	template corev1.PodTemplateSpec
}

// draw is a source of random choices.
type draw struct{ *rand.Rand }

func (d draw) chance(percent int) bool { return d.IntN(100) < percent }

func (d draw) one(of ...string) string { return of[d.IntN(len(of))] }

func (d draw) scenario() *scenario {
	c := &scenario{}
	for i := range 1 + d.IntN(8) {
		c.nodes = append(c.nodes, d.node(i))
	}
	c.template = d.template()
	for i := range d.IntN(4 * len(c.nodes)) {
		c.pods = append(c.pods, d.pod(i, c))
	}
	return c
}

func (d draw) node(i int) *corev1.Node {
	name := fmt.Sprintf("node-%d", i)
	amounts := corev1.ResourceList{
		gpu:                             *resource.NewQuantity(int64(d.IntN(9)), resource.DecimalSI),
		corev1.ResourceCPU:              *resource.NewMilliQuantity(int64(d.IntN(32_000)), resource.DecimalSI),
		corev1.ResourceMemory:           *resource.NewQuantity(int64(d.IntN(64))<<30, resource.BinarySI),
		corev1.ResourcePods:             *resource.NewQuantity(int64(3+d.IntN(12)), resource.DecimalSI),
		corev1.ResourceEphemeralStorage: *resource.NewQuantity(100<<30, resource.BinarySI),
	}
	if d.chance(20) {
		amounts["nvidia.com/mig-1g.10gb"] = *resource.NewQuantity(7, resource.DecimalSI)
	}
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
			corev1.LabelHostname: name, corev1.LabelTopologyZone: d.one("a", "b"), "tier": d.one("gold", "silver"),
			"slots": d.one("1", "4", "8"),
		}},
		Status: corev1.NodeStatus{
			Capacity: amounts, Allocatable: amounts,
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	}
	if d.chance(25) {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{
			Key: d.one("dedicated", gpu), Value: d.one("", "speech"),
			Effect: corev1.TaintEffect(d.one("NoSchedule", "NoExecute", "PreferNoSchedule")),
		})
	}
	if d.chance(10) {
		n.Spec.Unschedulable = true // with the taint that the node controller adds
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule})
	}
	if d.chance(10) {
		n.Status.Conditions[0].Status = corev1.ConditionFalse
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule})
	}
	return n
}

// requests are of a container; limits are equal to them, as those of GPUs have to be.
func (d draw) requests(gpus int) corev1.ResourceRequirements {
	list := corev1.ResourceList{}
	if gpus > 0 {
		list[corev1.ResourceName(d.one(gpu, gpu, gpu, "nvidia.com/mig-1g.10gb"))] = *resource.NewQuantity(int64(gpus), resource.DecimalSI)
	}
	if d.chance(70) {
		list[corev1.ResourceCPU] = *resource.NewMilliQuantity(int64(d.IntN(4000)), resource.DecimalSI)
	}
	if d.chance(50) {
		list[corev1.ResourceMemory] = *resource.NewQuantity(int64(d.IntN(8))<<30, resource.BinarySI)
	}
	if d.chance(10) {
		list[corev1.ResourceEphemeralStorage] = *resource.NewQuantity(int64(d.IntN(50))<<30, resource.BinarySI)
	}
	return corev1.ResourceRequirements{Requests: list, Limits: list}
}

func (d draw) template() corev1.PodTemplateSpec {
	t := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "own", "team": d.one("red", "blue")}}}
	t.Spec = d.spec(1 + d.IntN(3))
	if d.chance(20) {
		t.Spec.NodeSelector = map[string]string{"tier": "gold"}
	}
	if d.chance(30) {
		t.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: d.nodeAffinity()}}
	}
	if d.chance(30) {
		t.Spec.Tolerations = append(t.Spec.Tolerations, corev1.Toleration{
			Key: d.one("dedicated", gpu, ""), Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffect(d.one("", "NoSchedule")),
		})
	}
	return t
}

func (d draw) nodeAffinity() *corev1.NodeSelector {
	r := corev1.NodeSelectorRequirement{Key: corev1.LabelTopologyZone, Operator: corev1.NodeSelectorOpIn, Values: []string{"a"}}
	switch d.IntN(4) {
	case 0:
		r = corev1.NodeSelectorRequirement{Key: "tier", Operator: corev1.NodeSelectorOpNotIn, Values: []string{"silver"}}
	case 1:
		r = corev1.NodeSelectorRequirement{Key: "slots", Operator: corev1.NodeSelectorOpGt, Values: []string{"3"}}
	case 2:
		return &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{
			{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"node-0"}}}},
			{MatchExpressions: []corev1.NodeSelectorRequirement{r}},
		}}
	}
	return &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{r}}}}
}

// spec is that of a pod: containers, init containers, sidecars, overhead, host ports
// and anti-affinities.
func (d draw) spec(gpus int) corev1.PodSpec {
	s := corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Resources: d.requests(gpus)}}}
	if d.chance(30) {
		s.Containers = append(s.Containers, corev1.Container{Name: "second", Resources: d.requests(d.IntN(2))})
	}
	if d.chance(20) {
		s.InitContainers = append(s.InitContainers, corev1.Container{Name: "init", Resources: d.requests(d.IntN(4))})
	}
	if d.chance(20) {
		always := corev1.ContainerRestartPolicyAlways
		s.InitContainers = append(s.InitContainers, corev1.Container{Name: "sidecar", Resources: d.requests(0), RestartPolicy: &always})
		if d.chance(50) {
			s.InitContainers = append(s.InitContainers, corev1.Container{Name: "late", Resources: d.requests(d.IntN(4))})
		}
	}
	if d.chance(15) {
		s.Overhead = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("250m")}
	}
	if d.chance(15) {
		s.Containers[0].Ports = []corev1.ContainerPort{{
			ContainerPort: 80, HostPort: 80, Protocol: corev1.Protocol(d.one("TCP", "UDP")), HostIP: d.one("", "10.0.0.1", "0.0.0.0"),
		}}
	}
	if d.chance(25) {
		s.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{d.repels()}}}
	}
	return s
}

func (d draw) repels() corev1.PodAffinityTerm {
	t := corev1.PodAffinityTerm{
		TopologyKey:   corev1.LabelHostname,
		LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{d.one("app", "team"): d.one("own", "other", "red")}},
	}
	switch d.IntN(4) {
	case 0:
		t.Namespaces = []string{d.one(namespace, "elsewhere")}
	case 1:
		t.NamespaceSelector = &metav1.LabelSelector{} // all
	}
	return t
}

// pod is one that is bound: of the workload, or of others.
func (d draw) pod(i int, c *scenario) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: d.one(namespace, "elsewhere"), Name: fmt.Sprintf("pod-%d", i), UID: "u",
			Labels: map[string]string{"app": "other", "team": d.one("red", "blue")},
		},
		Spec:   d.spec(d.IntN(3)),
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
	if d.chance(20) {
		p.Namespace, p.Labels = namespace, c.template.Labels
		c.template.Spec.DeepCopyInto(&p.Spec)
	}
	p.Spec.NodeName = c.nodes[d.IntN(len(c.nodes))].Name
	if d.chance(20) {
		now := metav1.Now()
		p.DeletionTimestamp = &now
	}
	return p
}
