package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/inference-scaler/inference-scaler/test/e2e/inference"
)

// Every way in which a ScaledObject can name the scaler leads to the same
// replicas.
func TestTriggerForms(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"external", "external-push"} {
		for _, polling := range []int{1, 30} {
			for _, cached := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s-%ds-cached-%t", kind, polling, cached), func(t *testing.T) {
					t.Parallel()
					f := begin(t).fleet(workload{Replicas: 1, Slots: 32})
					f.scale(fmt.Sprintf(`
minReplicaCount: 1
maxReplicaCount: 10
pollingInterval: %d
advanced:
  horizontalPodAutoscalerConfig:
    behavior:
      scaleUp: {tolerance: "0", stabilizationWindowSeconds: 0}
      scaleDown: {tolerance: "0", stabilizationWindowSeconds: 5}
triggers:
  - type: %s
    useCachedMetrics: %t
    metadata:
      scalerAddress: $SCALER
      engine: lightning-asr
      hold: 5s
`, polling, kind, cached))
					asked := time.Now()
					f.burst(12)
					f.figure("12 requests: 3 replicas after %.1f s", f.ready(3).Sub(asked).Seconds())
					f.finish()
					f.atReplicas(1)
				})
			}
		}
	}
}

// Two of our triggers in one formula.
func TestScalingModifiers(t *testing.T) {
	t.Parallel()
	f := begin(t).fleet(workload{Replicas: 1, Slots: 32, StreamSlots: 32})
	f.scale(`
minReplicaCount: 1
maxReplicaCount: 10
pollingInterval: 1
advanced:
  scalingModifiers:
    formula: "max([requests, 2 * sessions])"
    target: "5"
    metricType: AverageValue
  horizontalPodAutoscalerConfig:
    behavior:
      scaleUp: {tolerance: "0", stabilizationWindowSeconds: 0, policies: [{type: Pods, value: 100, periodSeconds: 1}]}
      scaleDown: {tolerance: "0", stabilizationWindowSeconds: 5}
triggers:
  - type: external-push
    name: requests
    metadata: {scalerAddress: $SCALER, engine: lightning-asr, query: sum(asr_active_requests), target: "5", hold: 5s}
  - type: external-push
    name: sessions
    metadata: {scalerAddress: $SCALER, engine: lightning-asr, query: sum(asr_active_streams), target: "5", hold: 5s}
`)
	f.burst(12)
	f.ready(3)
	f.gateway.Submit(inference.Burst(11, true)...)
	f.ready(5) // 2 × 11 sessions are more than the 12 requests
	f.finish()
	f.atReplicas(1)
}

// KEDA's fallback is for scalers that fail. Ours answers as long as it lives; while
// it is away KEDA does not fall back, and the replicas stay.
func TestFallback(t *testing.T) {
	t.Parallel()
	s := begin(t)
	s.own(1, 0)
	f := s.fleet(workload{Replicas: 1, Slots: 32})
	f.scale(quick{min: 1, max: 10, more: "fallback: {failureThreshold: 3, replicas: 9}", triggers: push("engine: lightning-asr")}.String())
	f.burst(12)
	f.ready(3)

	settle := f.never("other than 3 replicas", func(m moment) bool { return m.Replicas != 3 })
	f.note("all pods hang")
	require.NoError(t, f.gateway.Fail(-1, inference.Hang))
	s.pause(12 * time.Second)
	settle()
	require.NoError(t, f.gateway.Fail(-1, inference.None))
	require.NotEqual(t, "True", condition(f, "Fallback"), "unreadable pods are no failure of the scaler")

	f.note("no scaler is there")
	gone := f.never("other than 3 replicas", func(m moment) bool { return m.Replicas != 3 })
	s.apply(render(scalerManifest, scalerInstall{Namespace: s.namespace, Own: true}))
	s.wait("the scaler has gone", func() error {
		if n := len(s.scalers(s.namespace)); n > 0 {
			return fmt.Errorf("%d are there", n)
		}
		return nil
	})
	s.pause(12 * time.Second)
	require.NotEqual(t, "True", condition(f, "Fallback"), "KEDA does not count a scaler that it cannot reach")
	require.NoError(t, s.installScaler(t.Context(), s.scaler))
	f.until("the scaler answers again", func(m moment) bool { return m.Wanted == 3 })
	gone()
	f.grows(9, 5)
	f.finish()
}

var scaledObjects = schema.GroupVersionResource{Group: "keda.sh", Version: "v1alpha1", Resource: "scaledobjects"}

// condition is the status of one of the ScaledObject's conditions.
func condition(f *fleet, kind string) string {
	f.Helper()
	object, err := f.cluster.Dynamic.Resource(scaledObjects).Namespace(f.namespace).Get(f.Context(), f.Name, metav1.GetOptions{})
	require.NoError(f, err)
	conditions, _, err := unstructured.NestedSlice(object.Object, "status", "conditions")
	require.NoError(f, err)
	for _, c := range conditions {
		if c, ok := c.(map[string]any); ok && c["type"] == kind {
			return fmt.Sprint(c["status"])
		}
	}
	return ""
}
