package kubernetes

import (
	"encoding/json"
	"slices"
	"strconv"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	"github.com/inference-scaler/inference-scaler/metricsource/kubernetes/informer"
	"github.com/inference-scaler/inference-scaler/metricsource/kubernetes/inventory"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const (
	groupApps       = "apps"
	kindDeployment  = "Deployment"
	kindStatefulSet = "StatefulSet"
)

// pod is what is kept of a corev1.Pod.
type pod struct {
	inventory.Pod
	state cluster.Pod
	ips   []string // of both families
}

// target is what is kept of a scale target.
type target struct {
	metav1.ObjectMeta
	ref      targetRef
	replicas int
	selector labels.Selector
	// template is nil if only the scale subresource is read. In resolved, the classes that
	// it names are applied.
	template *inventory.Template
	resolved *cluster.PodTemplate
	// err is the reason why the scale subresource could not be read. With gone, the target
	// does not exist: that is a result, not a failure.
	err  error
	gone bool
}

// targetRef names a scale target within a namespace. Version is empty for
// Deployments and StatefulSets, which are watched in one version only.
type targetRef struct{ group, version, kind, name string }

// scaledObject is what is kept of a ScaledObject.
type scaledObject struct {
	metav1.ObjectMeta
	spec objectSpec
}

// objectSpec contains what the answers depend on.
type objectSpec struct {
	target   targetRef
	min, max int
	paused   bool
	behavior *autoscalingv2.HorizontalPodAutoscalerBehavior
	triggers []cluster.ScaledObjectTrigger // external ones only
}

// The transforms below build small objects instead of emptying the API's, whose structs
// are large even when empty. client-go may apply a transform twice and may pass tombstones:
// an object that is not of the API's type is returned unchanged.

func trimPod(obj any) (any, error) {
	p, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil
	}
	ready := false
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			ready = c.Status == corev1.ConditionTrue
		}
	}
	ips := []string{p.Status.PodIP}
	for _, ip := range p.Status.PodIPs {
		ips = append(ips, ip.IP)
	}
	slices.Sort(ips)
	ips = slices.DeleteFunc(slices.Compact(ips), func(ip string) bool { return ip == "" })
	return &pod{Pod: inventory.NewPod(p), ips: ips, state: cluster.Pod{
		Name:        p.Name,
		UID:         string(p.UID),
		IP:          p.Status.PodIP,
		Phase:       string(p.Status.Phase),
		Ready:       ready,
		Terminating: p.DeletionTimestamp != nil,
		Node:        p.Spec.NodeName,
	}}, nil
}

func trimTarget(obj any) (any, error) {
	switch o := obj.(type) {
	case *appsv1.Deployment:
		return newTarget(o, kindDeployment, o.Spec.Replicas, o.Spec.Selector, &o.Spec.Template), nil
	case *appsv1.StatefulSet:
		t := newTarget(o, kindStatefulSet, o.Spec.Replicas, o.Spec.Selector, &o.Spec.Template)
		if len(o.Spec.VolumeClaimTemplates) > 0 {
			t.template.Unmodelled = append(t.template.Unmodelled, "volume claim templates")
		}
		return t, nil
	}
	return obj, nil
}

func newTarget(o metav1.Object, kind string, replicas *int32, selector *metav1.LabelSelector, tpl *corev1.PodTemplateSpec) *target {
	t := &target{
		ObjectMeta: informer.Identify(o),
		ref:        targetRef{group: groupApps, kind: kind, name: o.GetName()},
		replicas:   1, // the API's default
		selector:   labels.Nothing(),
		template:   inventory.NewTemplate(tpl),
	}
	if replicas != nil {
		t.replicas = int(*replicas)
	}
	// The API server rejects a selector that is empty or cannot be parsed. If there is one
	// all the same, it must not match every pod of the namespace.
	if s, err := metav1.LabelSelectorAsSelector(selector); err == nil && !s.Empty() {
		t.selector = s
	}
	return t
}

func trimScaledObject(obj any) (any, error) {
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return obj, nil
	}
	spec, _ := u.Object["spec"].(map[string]any)
	return &scaledObject{ObjectMeta: informer.Identify(u), spec: objectSpec{
		target:   refOf(spec),
		min:      number(spec, "minReplicaCount", 0),
		max:      number(spec, "maxReplicaCount", 100),
		paused:   paused(u.GetAnnotations()),
		behavior: behaviorOf(spec),
		triggers: externalTriggers(spec),
	}}, nil
}

// refOf reads scaleTargetRef with KEDA's defaults: apps/v1 for apiVersion, Deployment for
// kind, each independent of the other.
func refOf(spec map[string]any) targetRef {
	ref, _ := spec["scaleTargetRef"].(map[string]any)
	r := targetRef{group: groupApps, version: "v1", kind: kindDeployment}
	r.name, _ = ref["name"].(string)
	if kind, _ := ref["kind"].(string); kind != "" {
		r.kind = kind
	}
	if v, _ := ref["apiVersion"].(string); v != "" {
		gv, err := schema.ParseGroupVersion(v)
		if err != nil {
			gv = schema.GroupVersion{Group: v} // reported as an unknown kind
		}
		r.group, r.version = gv.Group, gv.Version
	}
	if r.watched() {
		r.version = ""
	}
	return r
}

// watched reports whether an informer watches this kind. All others are polled.
func (r targetRef) watched() bool {
	return r.group == groupApps && (r.kind == kindDeployment || r.kind == kindStatefulSet)
}

// polled reports whether its scale subresource is read.
func (r targetRef) polled() bool { return !r.watched() && r.name != "" }

func (r targetRef) String() string { return r.kind + "/" + r.name }

func externalTriggers(spec map[string]any) []cluster.ScaledObjectTrigger {
	var out []cluster.ScaledObjectTrigger
	list, _ := spec["triggers"].([]any)
	for _, e := range list {
		t, _ := e.(map[string]any)
		kind, _ := t["type"].(string)
		if kind != "external" && kind != "external-push" {
			continue
		}
		metadata := map[string]string{}
		m, _ := t["metadata"].(map[string]any)
		for k, v := range m {
			if s, ok := v.(string); ok { // the CRD allows nothing else
				metadata[k] = s
			}
		}
		out = append(out, cluster.ScaledObjectTrigger{Push: kind == "external-push", Metadata: metadata})
	}
	return out
}

// behaviorOf reads advanced.horizontalPodAutoscalerConfig.behavior; nil if it is absent or
// malformed.
func behaviorOf(spec map[string]any) *autoscalingv2.HorizontalPodAutoscalerBehavior {
	m, found, err := unstructured.NestedFieldNoCopy(spec, "advanced", "horizontalPodAutoscalerConfig", "behavior")
	behavior, ok := m.(map[string]any)
	if !found || err != nil || !ok {
		return nil
	}
	// Not by runtime.DefaultUnstructuredConverter: it truncates integers that overflow.
	text, err := json.Marshal(behavior)
	if err != nil {
		return nil
	}
	var out autoscalingv2.HorizontalPodAutoscalerBehavior
	if err := json.Unmarshal(text, &out); err != nil {
		return nil
	}
	for _, rules := range []*autoscalingv2.HPAScalingRules{out.ScaleUp, out.ScaleDown} {
		if rules != nil {
			// String caches its result in the Quantity. Concurrent readers share it, and
			// must not be the first to call String.
			_ = rules.Tolerance.String()
		}
	}
	return &out
}

// paused reads the annotations as KEDA does: paused-replicas is true if present. The others
// are booleans, and true if they cannot be parsed.
func paused(annotations map[string]string) bool {
	if _, ok := annotations["autoscaling.keda.sh/paused-replicas"]; ok {
		return true
	}
	for _, key := range []string{"autoscaling.keda.sh/paused", "autoscaling.keda.sh/paused-scale-out"} {
		v, ok := annotations[key]
		if b, err := strconv.ParseBool(v); ok && (b || err != nil) {
			return true
		}
	}
	return false
}

// number reads an integer, which the decoder may have stored as int64 or float64.
func number(m map[string]any, key string, absent int) int {
	switch n := m[key].(type) {
	case int64:
		return int(n)
	case float64:
		return int(n)
	}
	return absent
}
