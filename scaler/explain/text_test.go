package explain

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"
)

func of[T any](v T) *T { return &v }

func explained(value float64, decided, replicas int) Explanation {
	return Explanation{
		Namespace: "llm", ScaledObject: "vllm", Trigger: "vllm-1", Target: 5,
		Value: &value, Replicas: &decided, Active: true,
		Workload: &Workload{Kind: "StatefulSet", Name: "vllm", Replicas: replicas, MinReplicas: 2, MaxReplicas: 10},
	}
}

func TestHPA(t *testing.T) {
	for _, tc := range []struct {
		value             float64
		decided, replicas int
		want              string
	}{
		{12, 3, 1, "from 1 to 3 replicas, as fast as"},
		{11, 3, 1, "from 1 to 2 replicas, as fast as its behavior allows: 11/5 over 2 is within its tolerance of 10 %"},
		{0, 0, 4, "from 4 to 2 replicas, its minimum, as fast as"},
		{100, 20, 4, "from 4 to 10 replicas, its maximum, as fast as"},
		{52, 11, 10, "10 replicas as now: 52/5 over 10 is within its tolerance of 10 %"},
		{50, 10, 10, "10 replicas as now"},
		{11, 3, 0, "disabled at zero replicas; KEDA scales the workload up"},
	} {
		e := explained(tc.value, tc.decided, tc.replicas)
		require.Contains(t, e.HPA(), tc.want)
	}
	inactive := explained(0, 0, 0)
	inactive.Active = false
	require.Equal(t, "disabled at zero replicas; the trigger is not active, so KEDA keeps zero", inactive.HPA())
	unknown := Explanation{}
	require.Equal(t, "no value: the HPA keeps the replicas", unknown.HPA())
	e := explained(11, 3, 1)
	e.Workload = nil
	require.Equal(t, "3 replicas", e.HPA())
}

func TestHPABehavior(t *testing.T) {
	tolerance := func(s string) *autoscalingv2.HPAScalingRules {
		q := resource.MustParse(s)
		return &autoscalingv2.HPAScalingRules{Tolerance: &q}
	}
	disabled := autoscalingv2.DisabledPolicySelect
	for name, tc := range map[string]struct {
		behavior          autoscalingv2.HorizontalPodAutoscalerBehavior
		value             float64
		decided, replicas int
		want              string
	}{
		"no tolerance":                 {autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleDown: tolerance("0")}, 45, 9, 10, "from 10 to 9 replicas, as fast as"},
		"no tolerance, up by half a %": {autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: tolerance("0")}, 40.2, 9, 8, "from 8 to 9 replicas, as fast as"},
		"the other direction":          {autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleDown: tolerance("0")}, 42, 9, 8, `42/5 over 8 is within its tolerance of 10 % (behavior.scaleUp.tolerance: "0" gives 9)`},
		"a tolerance of 2.5 %":         {autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: tolerance("25m")}, 41, 9, 8, "8 replicas as now: 41/5 over 8 is within its tolerance of 2.5 %"},
		"beyond that":                  {autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: tolerance("25m")}, 41.01, 9, 8, "from 8 to 9 replicas"},
		"no scale-down":                {autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleDown: &autoscalingv2.HPAScalingRules{SelectPolicy: &disabled}}, 20, 4, 8, "8 replicas as now: behavior.scaleDown.selectPolicy is Disabled; 4 are desired"},
		"and above maxReplicas":        {autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleDown: &autoscalingv2.HPAScalingRules{SelectPolicy: &disabled}}, 20, 4, 12, "from 12 to 10 replicas, as fast as its behavior allows: behavior.scaleDown.selectPolicy is Disabled; 4 are desired"},
		"above maxReplicas":            {autoscalingv2.HorizontalPodAutoscalerBehavior{}, 60, 12, 12, "from 12 to 10 replicas, its maximum, as fast as"},
		"measured from maxReplicas":    {autoscalingv2.HorizontalPodAutoscalerBehavior{}, 45, 9, 12, "from 12 to 10 replicas, as fast as its behavior allows: 45/5 over 10 is within its tolerance of 10 %"},
	} {
		t.Run(name, func(t *testing.T) {
			e := explained(tc.value, tc.decided, tc.replicas)
			e.Workload.Behavior = &tc.behavior
			require.Contains(t, e.HPA(), tc.want)
		})
	}
}

func TestTextOfUnknownValues(t *testing.T) {
	e := explained(20, 4, 4)
	e.Workload.Paused = true
	e.Pods = []Pod{{Name: "vllm-0", State: "silent", AgeSeconds: of(7.25), Load: of(6.0), Fault: "does not respond"}, {Name: "vllm-1", State: "starting"}}
	e.Faults = []string{"vllm-0: does not respond"}
	e.Queries = []Query{{Signal: "load", PromQL: "sum(x)", Error: "boom", Warnings: []string{"a histogram"}}}
	var b strings.Builder
	require.NoError(t, Text(&b, []Explanation{e, {Namespace: "llm", ScaledObject: "new", Trigger: "vllm-2", Error: "not synced"}}))
	require.Equal(t, strings.TrimLeft(`
llm/vllm  trigger vllm-1
  workload  StatefulSet/vllm, 4 replicas (min 2, max 10), paused
  decision  20/5: 4 replicas; active ()
  HPA       paused: KEDA does not scale the workload; 4 replicas would be desired
  decided   0s ago
  fault     vllm-0: does not respond

  steps
    rule  load  replicas  why

  pods
    name    state     ready  answered  load  in flight  saturation  fault
    vllm-0  silent    false  7.3s ago  6     -          -           does not respond
    vllm-1  starting  false  never     -     -          -

  queries
    load: sum(x)
      error: boom
      warning: a histogram

llm/new  trigger vllm-2
  no decision: not synced
`, "\n"), b.String())
}
