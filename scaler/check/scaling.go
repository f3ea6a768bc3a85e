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

// Rules about zero, growing and shrinking.

// zeroUnseen: some trigger has to see demand where there is no pod. What is not ours
// may (a schedule, a queue), but for CPU and memory, which pods alone have.
func zeroUnseen(s *subject) {
	if !s.sleeps() {
		return
	}
	if slices.ContainsFunc(s.spec.Triggers, func(t triggerSpec) bool { return !isOurs(t) && t.Type != "cpu" && t.Type != "memory" }) {
		return
	}
	for _, o := range s.ours {
		upstream := o.says("upstream") || o.says("upstreamEngine") || o.says("upstreamQuery")
		if upstream || o.says("prometheusAddress") && !o.says("engine") {
			return
		}
	}
	given := "is 0"
	if s.spec.MinReplicaCount == nil && s.spec.IdleReplicaCount == nil {
		given = "is not given, which means 0"
	}
	s.at([]any{s.zeroKey()}, "%s %s, and no trigger sees demand while there is no pod; wanted: an upstream, or upstreamEngine: demand where demand is pushed, or 1", s.zeroKey(), given)
}

// zeroKey is the key that lets the workload come to zero.
func (s *subject) zeroKey() string {
	if s.spec.IdleReplicaCount != nil {
		return "idleReplicaCount"
	}
	return "minReplicaCount"
}

func zeroInFlight(s *subject) {
	if !s.sleeps() {
		return
	}
	for _, o := range s.parsed() {
		switch {
		case o.parsed.InFlight == nil:
			s.at([]any{"triggers", o.at, "metadata", "engine"}, "%s does not tell what its pods are working on, so the workload never sleeps; wanted: an inflightQuery, or a minReplicaCount of 1", o.parsed.Engine)
		case o.says("query") && !o.says("inflightQuery") && o.parsed.Engine == "" && o.parsed.Prometheus == nil:
			s.at([]any{"triggers", o.at, "metadata", "query"}, "the query is taken for all work in flight: if it counts waiting work alone, the workload is put to sleep while it works; wanted: an inflightQuery that counts running work too")
		}
	}
}

func cooldown(s *subject) {
	if !s.sleeps() {
		return
	}
	period := or(s.spec.CooldownPeriod, 300) // KEDA's default
	if load, said := s.modelLoad(); time.Duration(period)*time.Second < load {
		s.at([]any{"cooldownPeriod"}, "cooldownPeriod: %d, and %s until a pod is ready (%s): a fleet that sleeps between two requests loads its model for each; wanted: %g or more", period, load, said, load.Seconds())
	}
}

// modelLoad is how long a pod may take until it is ready: what its startup probe allows.
func (s *subject) modelLoad() (load time.Duration, said string) {
	if pods := s.pods(); pods != nil {
		for _, c := range pods.Containers {
			if p := c.StartupProbe; p != nil {
				seconds := p.InitialDelaySeconds + or(p.PeriodSeconds, 10)*or(p.FailureThreshold, 3)
				load = max(load, time.Duration(seconds)*time.Second)
			}
		}
	}
	if load > 0 {
		return load, "its startup probe allows as much"
	}
	return s.ModelLoad, "--model-load says how long"
}

func formula(s *subject) {
	if s.spec.Advanced.ScalingModifiers.Formula != "" && s.sleeps() {
		s.at([]any{"advanced", "scalingModifiers", "formula"}, "KEDA goes by the formula's value, and puts the workload to sleep while requests run; wanted: no formula (the largest trigger wins without one), or a minReplicaCount of 1")
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
		"no tolerance: \"0\" in %s (Kubernetes 1.35 and later): the HPA swallows every change of less than 10 %% of the replicas", strings.Join(missing, " and "))
}

// isZero reports whether a quantity is 0, as in 0, "0" or 0m; an empty one is not given.
func isZero(text string) bool {
	quantity, err := resource.ParseQuantity(text)
	return err == nil && quantity.IsZero()
}

func slowGrowth(s *subject) {
	least, most, _ := s.bounds()
	spec := hpa.Spec{MinReplicas: max(least, 1), MaxReplicas: most, Behavior: s.growth()}
	path := []any{"advanced", "horizontalPodAutoscalerConfig", "behavior", "scaleUp"}
	takes, ever := spec.TimeToGrow(spec.MinReplicas, most)
	up, window := &autoscalingv2.HPAScalingRules{}, time.Duration(0)
	if b := hpa.Defaulted(spec.Behavior); b != nil {
		up, window = b.ScaleUp, time.Duration(*b.ScaleUp.StabilizationWindowSeconds)*time.Second
	}
	switch {
	case or(up.SelectPolicy, "") == autoscalingv2.DisabledPolicySelect:
		s.at(append(path, "selectPolicy"), "selectPolicy: Disabled keeps the fleet from ever growing; wanted: Max")
	case !ever:
		s.at(append(path, "policies"), "the policies do not let the fleet grow from %d to %d replicas within a day", spec.MinReplicas, most)
	case takes > s.Burst:
		s.at(append(path, "policies"), "from %d to %d replicas the policies take %s at best, with a window of %s; wanted: %s or less (--burst), as by 100 %% or 4 pods per 15 s, whichever is more",
			spec.MinReplicas, most, takes, window, s.Burst)
	}
}

// growth returns the part of the behavior that limits growth; nil without a behavior.
func (s *subject) growth() *autoscalingv2.HorizontalPodAutoscalerBehavior {
	given := s.spec.Advanced.HPA.Behavior
	if given == nil {
		return nil
	}
	b := &autoscalingv2.HorizontalPodAutoscalerBehavior{}
	if up := given.ScaleUp; up != nil {
		b.ScaleUp = &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: up.StabilizationWindowSeconds}
		if up.SelectPolicy != "" {
			choose := autoscalingv2.ScalingPolicySelect(up.SelectPolicy)
			b.ScaleUp.SelectPolicy = &choose
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
		s.onWorkload([]any{"podManagementPolicy"}, "pods start one after the other, each when the last is ready; wanted: podManagementPolicy: Parallel (only a new StatefulSet takes it)")
	}
}

func surge(s *subject) {
	if s.workload == nil || s.workload.doc.Kind != "Deployment" || s.workload.spec.Strategy.Type == "Recreate" {
		return
	}
	rolling := s.workload.spec.Strategy.RollingUpdate
	least, most, _ := s.bounds()
	s.gpus(func(o ours, device capacity.Device) {
		if device.PerReplica == 0 {
			return
		}
		for n := min(most, 100); n >= max(least, 1); n-- { // beyond 100 every percentage is a pod
			if share(rolling.MaxUnavailable, n, math.Floor) == 0 && share(rolling.MaxSurge, n, math.Ceil) > 0 {
				s.onWorkload([]any{"strategy"}, "a rollout of %d replicas ends no pod before another is ready, which full GPUs have no room for; wanted: rollingUpdate with maxSurge: 0 and maxUnavailable: 1, or Recreate", n)
				return
			}
		}
	})
}

// share is a number of replicas, or a share of them, 25 % where nothing is said.
func share(text string, of int, round func(float64) float64) int {
	if text == "" {
		text = "25%"
	}
	percent, ok := strings.CutSuffix(text, "%")
	n, err := strconv.Atoi(percent)
	if err != nil {
		return 1 // the API server refuses it
	}
	if ok {
		n = int(round(float64(n) * float64(of) / 100))
	}
	return n
}

func or[T any](given *T, otherwise T) T {
	if given == nil {
		return otherwise
	}
	return *given
}
