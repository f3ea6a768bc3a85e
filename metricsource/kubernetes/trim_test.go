package kubernetes

import (
	"testing"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	"github.com/inference-scaler/inference-scaler/metricsource/kubernetes/inventory"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/cache"
)

func fullMeta() metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: "ns", Name: "n", UID: "u", ResourceVersion: "7", Generation: 3,
		Labels:          app("a"),
		Annotations:     map[string]string{"big": "blob"},
		OwnerReferences: []metav1.OwnerReference{{Name: "o"}},
		ManagedFields:   []metav1.ManagedFieldsEntry{{Manager: "kubelet"}},
		Finalizers:      []string{"f"},
	}
}

func TestTrimPod(t *testing.T) {
	m := fullMeta()
	m.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
	got, err := trimPod(&corev1.Pod{
		ObjectMeta: m,
		Spec:       corev1.PodSpec{NodeName: "node", Containers: []corev1.Container{{Name: "c"}}},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: "10.0.0.1", HostIP: "1.2.3.4",
			Conditions: []corev1.PodCondition{
				{Type: corev1.ContainersReady, Status: corev1.ConditionFalse},
				{Type: corev1.PodReady, Status: corev1.ConditionTrue},
			},
		},
	})
	require.NoError(t, err)
	want := &pod{
		Pod: inventory.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "n", UID: "u", ResourceVersion: "7", Labels: app("a")},
			Requests:   cluster.Resources{"pods": 1},
			Limits:     cluster.Resources{},
			Bound:      &cluster.BoundPod{Namespace: "ns", Name: "n", Labels: app("a"), Node: "node", Requests: cluster.Resources{"pods": 1}},
		},
		state: cluster.Pod{Name: "n", UID: "u", IP: "10.0.0.1", Phase: "Running", Ready: true, Terminating: true, Node: "node"},
		ips:   []string{"10.0.0.1"},
	}
	require.Equal(t, want, got)

	again, err := trimPod(got)
	require.NoError(t, err)
	require.Same(t, got, again, "client-go may trim twice")

	tombstone := cache.DeletedFinalStateUnknown{Key: "ns/n", Obj: got}
	kept, err := trimPod(tombstone)
	require.NoError(t, err)
	require.Equal(t, tombstone, kept)
}

func TestTrimTarget(t *testing.T) {
	identity := metav1.ObjectMeta{Namespace: "ns", Name: "n", UID: "u", ResourceVersion: "7"}
	two := int32(2)
	selector := &metav1.LabelSelector{
		MatchLabels:      app("a"),
		MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "tier", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"x"}}},
	}
	for kind, obj := range map[string]any{
		kindDeployment:  &appsv1.Deployment{ObjectMeta: fullMeta(), Spec: appsv1.DeploymentSpec{Replicas: &two, Selector: selector}},
		kindStatefulSet: &appsv1.StatefulSet{ObjectMeta: fullMeta(), Spec: appsv1.StatefulSetSpec{Replicas: &two, Selector: selector}},
	} {
		o, err := trimTarget(obj)
		require.NoError(t, err)
		got := o.(*target)
		require.Equal(t, "app=a,tier notin (x)", got.selector.String())
		got.selector = nil
		require.Equal(t, &target{
			ObjectMeta: identity, replicas: 2,
			ref:      targetRef{group: "apps", kind: kind, name: "n"},
			template: &inventory.Template{PodTemplate: *onlyCounted},
		}, got)
	}
}

func TestTrimTargetDefaults(t *testing.T) {
	o, err := trimTarget(&appsv1.Deployment{ObjectMeta: fullMeta(), Spec: appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{}}})
	require.NoError(t, err)
	require.Equal(t, 1, o.(*target).replicas)
	require.False(t, o.(*target).selector.Matches(nil), "an empty selector claims no pod")
}

func TestTrimScaledObject(t *testing.T) {
	got, err := trimScaledObject(&unstructured.Unstructured{Object: map[string]any{
		"metadata": map[string]any{
			"namespace": "ns", "name": "n", "uid": "u", "resourceVersion": "7",
			"managedFields": []any{map[string]any{"manager": "kubectl"}}, "labels": map[string]any{"a": "b"},
		},
		"spec": map[string]any{
			"scaleTargetRef":  map[string]any{"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": "asr"},
			"minReplicaCount": int64(2), "maxReplicaCount": float64(9),
			"triggers": []any{
				map[string]any{"type": "cron", "metadata": map[string]any{"start": "x"}},
				map[string]any{"type": "external", "metadata": map[string]any{"engine": "vllm", "port": "81"}},
				map[string]any{"type": "external-push", "metadata": map[string]any{"engine": "sglang"}},
			},
		},
		"status": map[string]any{"lastActiveTime": "now"},
	}})
	require.NoError(t, err)
	require.Equal(t, &scaledObject{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "n", UID: "u", ResourceVersion: "7"},
		spec: objectSpec{
			target: targetRef{"argoproj.io", "v1alpha1", "Rollout", "asr"},
			min:    2, max: 9,
			triggers: []cluster.ScaledObjectTrigger{
				{Metadata: map[string]string{"engine": "vllm", "port": "81"}},
				{Push: true, Metadata: map[string]string{"engine": "sglang"}},
			},
		},
	}, got)
}

func TestTrimBehavior(t *testing.T) {
	full := map[string]any{
		"scaleUp": map[string]any{
			"stabilizationWindowSeconds": int64(0), "selectPolicy": "Min", "tolerance": int64(0),
			"policies": []any{map[string]any{"type": "Pods", "value": int64(4), "periodSeconds": int64(15)}},
		},
		"scaleDown": map[string]any{"stabilizationWindowSeconds": float64(300), "selectPolicy": "Max", "tolerance": "0.05"},
	}
	got := behaviorOf(advanced(full))
	require.Equal(t, []autoscalingv2.HPAScalingPolicy{{Type: autoscalingv2.PodsScalingPolicy, Value: 4, PeriodSeconds: 15}}, got.ScaleUp.Policies)
	require.Equal(t, autoscalingv2.MinChangePolicySelect, *got.ScaleUp.SelectPolicy)
	require.Zero(t, *got.ScaleUp.StabilizationWindowSeconds)
	require.True(t, got.ScaleUp.Tolerance.IsZero())
	require.EqualValues(t, 300, *got.ScaleDown.StabilizationWindowSeconds)
	require.Equal(t, autoscalingv2.MaxChangePolicySelect, *got.ScaleDown.SelectPolicy)
	require.EqualValues(t, 50, got.ScaleDown.Tolerance.MilliValue())
	require.Equal(t, &autoscalingv2.HorizontalPodAutoscalerBehavior{}, behaviorOf(advanced(map[string]any{})), "empty is not absent: the API server applies defaults")

	for _, malformed := range []any{
		nil, "fast",
		[]any{},
		map[string]any{"scaleUp": []any{}},
		map[string]any{"scaleUp": map[string]any{"stabilizationWindowSeconds": "60"}},
		map[string]any{"scaleUp": map[string]any{"stabilizationWindowSeconds": int64(1) << 40}},
		map[string]any{"scaleUp": map[string]any{"tolerance": "a tenth"}},
		map[string]any{"scaleUp": map[string]any{"policies": map[string]any{}}},
	} {
		require.Nil(t, behaviorOf(advanced(malformed)), "%v", malformed)
	}
	for _, spec := range []map[string]any{
		nil, {"advanced": "x"}, {"advanced": map[string]any{"horizontalPodAutoscalerConfig": int64(1)}}, {"advanced": map[string]any{}},
	} {
		require.Nil(t, behaviorOf(spec), "%v", spec)
	}
}

func advanced(behavior any) map[string]any {
	return map[string]any{"advanced": map[string]any{"horizontalPodAutoscalerConfig": map[string]any{"behavior": behavior}}}
}

func TestScaleTargetRefDefaults(t *testing.T) {
	for _, tc := range []struct {
		ref  map[string]any
		want targetRef
	}{
		{named("a"), targetRef{"apps", "", "Deployment", "a"}},
		{map[string]any{"name": "a", "kind": "StatefulSet"}, targetRef{"apps", "", "StatefulSet", "a"}},
		{map[string]any{"name": "a", "kind": "StatefulSet", "apiVersion": "apps/v1"}, targetRef{"apps", "", "StatefulSet", "a"}},
		{map[string]any{"name": "a", "kind": "ReplicaSet"}, targetRef{"apps", "v1", "ReplicaSet", "a"}},
		{map[string]any{"name": "a", "kind": "Deployment", "apiVersion": "acme.io/v2"}, targetRef{"acme.io", "v2", "Deployment", "a"}},
		{map[string]any{"name": "a", "kind": "X", "apiVersion": "a/b/c"}, targetRef{"a/b/c", "", "X", "a"}},
		{nil, targetRef{"apps", "", "Deployment", ""}},
	} {
		require.Equal(t, tc.want, refOf(map[string]any{"scaleTargetRef": tc.ref}), "%v", tc.ref)
	}
}

func TestPaused(t *testing.T) {
	const prefix = "autoscaling.keda.sh/"
	for _, tc := range []struct {
		key, value string
		want       bool
	}{
		{"paused", "true", true},
		{"paused", "false", false},
		{"paused", "yes", true}, // KEDA: what is not a boolean pauses
		{"paused", "", true},
		{"paused-replicas", "0", true},
		{"paused-replicas", "false", true},
		{"paused-scale-out", "true", true},
		{"paused-scale-out", "0", false},
		{"paused-scale-in", "true", false},
	} {
		require.Equal(t, tc.want, paused(map[string]string{prefix + tc.key: tc.value}), "%s: %q", tc.key, tc.value)
	}
	require.False(t, paused(nil))
}
