package check

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/inference-scaler/inference-scaler/scaler/capacity"
	"github.com/inference-scaler/inference-scaler/scaler/hpa"
)

// Rules about zero replicas, scaling up and scaling down.

// zeroUnseen requires a trigger that sees demand without a pod. A trigger of another scaler
// may be one, such as a schedule or a queue. CPU and memory are metrics of pods.
func zeroUnseen(s *subject) {
	if !s.scalesToZero() {
		return
	}
	if slices.ContainsFunc(s.spec.Triggers, func(t triggerSpec) bool { return !isOwn(t) && t.Type != "cpu" && t.Type != "memory" }) {
		return
	}
	for _, o := range s.triggers {
		upstream := o.has("upstream") || o.has("upstreamEngine") || o.has("upstreamQuery")
		if upstream || o.has("prometheusAddress") && !o.has("engine") {
			return
		}
	}
	value := "0"
	if s.spec.MinReplicaCount == nil && s.spec.IdleReplicaCount == nil {
		value = "0 (the default)"
	}
	s.at([]any{s.zeroKey()}, "%s: %s; no trigger sees demand at zero replicas; wanted: an upstream, upstreamEngine: demand for pushed demand, or 1 replica", s.zeroKey(), value)
}

// zeroKey is the key that allows zero replicas.
func (s *subject) zeroKey() string {
	if s.spec.IdleReplicaCount != nil {
		return "idleReplicaCount"
	}
	return "minReplicaCount"
}

func zeroInFlight(s *subject) {
	if !s.scalesToZero() {
		return
	}
	for _, o := range s.parsed() {
		switch {
		case o.parsed.InFlight == nil:
			s.at([]any{"triggers", o.index, "metadata", "engine"}, "engine: %s; its work in flight is unknown, so the workload never scales to zero; wanted: an inflightQuery, or a minReplicaCount of 1", o.parsed.Engine)
		case o.has("query") && !o.has("inflightQuery") && o.parsed.Engine == "" && o.parsed.Prometheus == nil:
			s.at([]any{"triggers", o.index, "metadata", "query"}, "query is also used as the work in flight: if it counts only waiting requests, the workload scales to zero while requests run; wanted: an inflightQuery that also counts running requests")
		}
	}
}

func cooldown(s *subject) {
	if !s.scalesToZero() {
		return
	}
	period := or(s.spec.CooldownPeriod, 300) // KEDA's default
	if load, origin := s.modelLoad(); time.Duration(period)*time.Second < load {
		s.at([]any{"cooldownPeriod"}, "cooldownPeriod: %d; a pod takes up to %s to become ready (%s), so the model may load again for each request; wanted: %g or more", period, load, origin, load.Seconds())
	}
}

// modelLoad returns how long a pod may take to become ready, and where that value comes from:
// the startup probe or, without one, the options.
func (s *subject) modelLoad() (load time.Duration, origin string) {
	if pods := s.pods(); pods != nil {
		for _, c := range pods.Containers {
			if p := c.StartupProbe; p != nil {
				seconds := p.InitialDelaySeconds + or(p.PeriodSeconds, 10)*or(p.FailureThreshold, 3)
				load = max(load, time.Duration(seconds)*time.Second)
			}
		}
	}
	if load > 0 {
		return load, "by its startup probe"
	}
	return s.ModelLoad, "--model-load"
}

func formula(s *subject) {
	if s.spec.Advanced.ScalingModifiers.Formula != "" && s.scalesToZero() {
		s.at([]any{"advanced", "scalingModifiers", "formula"}, "formula: KEDA ignores the work in flight and scales the workload to zero while requests run; wanted: no formula (the HPA then uses the largest trigger), or a minReplicaCount of 1")
	}
}

func tolerance(s *subject) {
	b := or(s.spec.Advanced.HPA.Behavior, behavior{})
	var missing []string
	for _, direction := range []struct {
		name  string
		rules *scalingRules
	}{{"scaleUp", b.ScaleUp}, {"scaleDown", b.ScaleDown}} {
		if direction.rules == nil || direction.rules.SelectPolicy != "Disabled" && !isZero(direction.rules.Tolerance) {
			missing = append(missing, direction.name)
		}
	}
	if len(missing) == 0 {
		return
	}
	s.at([]any{"advanced", "horizontalPodAutoscalerConfig", "behavior", missing[0], "tolerance"},
		"tolerance is not 0 in %s: the HPA ignores changes within its tolerance, by default 10 %% of the replicas; wanted: tolerance: \"0\" (Kubernetes 1.35 and later)", strings.Join(missing, " and "))
}

// isZero reports whether a quantity is 0, such as 0, "0" or 0m. An empty text is not.
func isZero(text string) bool {
	quantity, err := resource.ParseQuantity(text)
	return err == nil && quantity.IsZero()
}

func slowGrowth(s *subject) {
	least, most, _ := s.bounds()
	spec := hpa.Spec{MinReplicas: max(least, 1), MaxReplicas: most, Behavior: s.growth()}
	path := []any{"advanced", "horizontalPodAutoscalerConfig", "behavior", "scaleUp"}
	duration, reachable := spec.TimeToGrow(spec.MinReplicas, most)
	up, window := &autoscalingv2.HPAScalingRules{}, time.Duration(0)
	if b := hpa.Defaulted(spec.Behavior); b != nil {
		up, window = b.ScaleUp, time.Duration(*b.ScaleUp.StabilizationWindowSeconds)*time.Second
	}
	switch {
	case or(up.SelectPolicy, "") == autoscalingv2.DisabledPolicySelect:
		s.at(append(path, "selectPolicy"), "selectPolicy: Disabled; the workload never scales up; wanted: Max")
	case !reachable:
		s.at(append(path, "policies"), "policies: the workload does not grow from %d to %d replicas within a day; wanted: %s or less (--burst), for example by 100 %% or 4 pods per 15 s, whichever is more", spec.MinReplicas, most, s.Burst)
	case duration > s.Burst:
		s.at(append(path, "policies"), "policies: the workload takes at least %s to grow from %d to %d replicas, with a stabilization window of %s; wanted: %s or less (--burst), for example by 100 %% or 4 pods per 15 s, whichever is more",
			duration, spec.MinReplicas, most, window, s.Burst)
	}
}

// growth returns the part of the behavior that limits scaling up; nil without a behavior.
func (s *subject) growth() *autoscalingv2.HorizontalPodAutoscalerBehavior {
	given := s.spec.Advanced.HPA.Behavior
	if given == nil {
		return nil
	}
	b := &autoscalingv2.HorizontalPodAutoscalerBehavior{}
	if up := given.ScaleUp; up != nil {
		b.ScaleUp = &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: up.StabilizationWindowSeconds}
		if up.SelectPolicy != "" {
			policy := autoscalingv2.ScalingPolicySelect(up.SelectPolicy)
			b.ScaleUp.SelectPolicy = &policy
		}
		for _, p := range up.Policies {
			b.ScaleUp.Policies = append(b.ScaleUp.Policies, autoscalingv2.HPAScalingPolicy{
				Type: autoscalingv2.HPAScalingPolicyType(p.Type), Value: p.Value, PeriodSeconds: p.PeriodSeconds,
			})
		}
	}
	return b
}

func statefulSetOrder(s *subject) {
	if s.workload != nil && s.workload.doc.Kind == "StatefulSet" && s.workload.spec.PodManagementPolicy != "Parallel" {
		s.onWorkload([]any{"podManagementPolicy"}, "podManagementPolicy is not Parallel, so each pod starts after the previous one is ready; wanted: podManagementPolicy: Parallel (immutable: recreate the StatefulSet)")
	}
}

func surge(s *subject) {
	if s.workload == nil || s.workload.doc.Kind != "Deployment" || s.workload.spec.Strategy.Type == "Recreate" {
		return
	}
	rolling := s.workload.spec.Strategy.RollingUpdate
	least, most, _ := s.bounds()
	s.gpus(func(o ownTrigger, device capacity.Device) {
		if device.PerReplica == 0 {
			return
		}
		for n := min(most, 100); n >= max(least, 1); n-- { // above 100 replicas, 1 % is at least one pod
			if intOrPercent(rolling.MaxUnavailable, n, math.Floor) == 0 && intOrPercent(rolling.MaxSurge, n, math.Ceil) > 0 {
				s.onWorkload([]any{"strategy"}, "strategy: a rollout of %d replicas removes a pod only after a new one is ready, and the new one stays pending while all GPUs are in use; wanted: rollingUpdate with maxSurge: 0 and maxUnavailable: 1, or Recreate", n)
				return
			}
		}
	})
}

// intOrPercent is a number of replicas, or a percentage of them. The default is that of a
// Deployment: 25 %.
func intOrPercent(text string, replicas int, round func(float64) float64) int {
	if text == "" {
		text = "25%"
	}
	percent, ok := strings.CutSuffix(text, "%")
	n, err := strconv.Atoi(percent)
	if err != nil {
		return 1 // the API server rejects it
	}
	if ok {
		n = int(round(float64(n) * float64(replicas) / 100))
	}
	return n
}

func or[T any](value *T, fallback T) T {
	if value == nil {
		return fallback
	}
	return *value
}
