package scaler

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	"github.com/inference-scaler/inference-scaler/scaler/explain"
)

// `why` judges the tolerance by the behavior of the ScaledObject.
func TestExplanationHasTheBehavior(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		w.network.add("10.0.0.1:9090", asr(52))
		w.cluster.declare(onPods)
		zero := resource.MustParse("0")
		w.cluster.update(func(wl *cluster.Workload) {
			wl.Replicas, wl.MaxReplicas = 10, 20
			wl.Pods = []cluster.Pod{pod("a", "10.0.0.1", true)}
			wl.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: &autoscalingv2.HPAScalingRules{Tolerance: &zero}}
		})
		w.pass(2 * time.Second)
		e := w.why()
		require.Equal(t, 52.0, *e.Value)
		var text strings.Builder
		require.NoError(t, explain.Text(&text, []explain.Explanation{e}))
		require.Contains(t, text.String(), "  HPA       from 10 to 11 replicas, as fast as its behavior allows\n")
	})
}
