package hpa

import (
	"math"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

// DefaultScaleDownWindow is how long the HPA follows the highest recommendation
// where the behavior does not say so
// (kube-controller-manager --horizontal-pod-autoscaler-downscale-stabilization).
const DefaultScaleDownWindow = 300 * time.Second

// Defaulted returns the behavior with all that Kubernetes fills in: nothing but
// the tolerances may be nil. Without a behavior it returns nil, which is not the
// same as an empty one: the HPA then has a limit of growth per sync instead of
// policies.
//
// An empty behavior grows by 4 pods or 100 % per 15 s, whichever is more, and
// shrinks to the highest recommendation of the last 300 s. The result shares
// memory with the argument: neither may be changed.
//
// It mirrors [SetDefaults_HorizontalPodAutoscalerBehavior], and
// [maybeInitScaleDownStabilizationWindow].
//
// [SetDefaults_HorizontalPodAutoscalerBehavior]: https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/apis/autoscaling/v2/defaults.go#L96
// [maybeInitScaleDownStabilizationWindow]: https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/controller/podautoscaler/horizontal.go#L1172
func Defaulted(behavior *autoscalingv2.HorizontalPodAutoscalerBehavior) *autoscalingv2.HorizontalPodAutoscalerBehavior {
	if behavior == nil {
		return nil
	}
	return &autoscalingv2.HorizontalPodAutoscalerBehavior{
		ScaleUp: filled(behavior.ScaleUp, 0,
			autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PodsScalingPolicy, Value: 4, PeriodSeconds: 15},
			autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15}),
		ScaleDown: filled(behavior.ScaleDown, DefaultScaleDownWindow,
			autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15}),
	}
}

// filled returns the rules of one direction with its defaults.
func filled(given *autoscalingv2.HPAScalingRules, window time.Duration, policies ...autoscalingv2.HPAScalingPolicy) *autoscalingv2.HPAScalingRules {
	r := autoscalingv2.HPAScalingRules{}
	if given != nil {
		r = *given
	}
	if r.StabilizationWindowSeconds == nil {
		seconds := int32(window / time.Second)
		r.StabilizationWindowSeconds = &seconds
	}
	if r.SelectPolicy == nil {
		largest := autoscalingv2.MaxChangePolicySelect
		r.SelectPolicy = &largest
	}
	if r.Policies == nil {
		r.Policies = policies
	}
	return &r
}

func window(rules *autoscalingv2.HPAScalingRules) time.Duration {
	return time.Duration(*rules.StabilizationWindowSeconds) * time.Second
}

// longestPeriod is how far back the policies look.
func longestPeriod(rules *autoscalingv2.HPAScalingRules) time.Duration {
	var longest int32
	for _, p := range rules.Policies {
		longest = max(longest, p.PeriodSeconds)
	}
	return time.Duration(longest) * time.Second
}

// The directions of a change.
const (
	up   = +1
	down = -1
)

// limit returns the replicas that the policies of a direction allow at most (up)
// or at least (down), and current where they allow no change. Each policy
// counts from the replicas at the beginning of its period: with 10 replicas, of
// which 4 are 30 s old, "50 % per 60 s" allows 9, and so no growth.
//
// It mirrors [calculateScaleUpLimitWithScalingRules] and
// [calculateScaleDownLimitWithBehaviors].
//
// [calculateScaleUpLimitWithScalingRules]: https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/controller/podautoscaler/horizontal.go#L1434
// [calculateScaleDownLimitWithBehaviors]: https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/controller/podautoscaler/horizontal.go#L1463
func (m *Memory) limit(now time.Time, direction, current int, rules *autoscalingv2.HPAScalingRules) int {
	if *rules.SelectPolicy == autoscalingv2.DisabledPolicySelect {
		return current
	}
	// The largest number is the largest change up, and the smallest change down.
	largest := (*rules.SelectPolicy != autoscalingv2.MinChangePolicySelect) == (direction == up)
	result := int32(math.MaxInt32)
	if largest {
		result = math.MinInt32
	}
	for _, p := range rules.Policies {
		start := current - changed(m.ups, now, p.PeriodSeconds) + changed(m.downs, now, p.PeriodSeconds)
		if proposed := allowed(p, direction, int32(start)); largest {
			result = max(result, proposed)
		} else {
			result = min(result, proposed)
		}
	}
	if direction == up {
		return max(current, int(result))
	}
	return min(current, int(result))
}

// allowed returns the replicas that a policy allows if its period began with
// start. Growth by a percentage is rounded up, as 10 % of 3 would otherwise be
// no growth. In int32, as in the controller: a policy of 2147483647 pods
// overflows, and allows no growth.
func allowed(p autoscalingv2.HPAScalingPolicy, direction int, start int32) int32 {
	switch {
	case p.Type == autoscalingv2.PodsScalingPolicy:
		return start + int32(direction)*p.Value
	case direction == up:
		return int32(math.Ceil(float64(start) * (1 + float64(p.Value)/100)))
	default:
		return int32(float64(start) * (1 - float64(p.Value)/100))
	}
}

// limitPerSync is the growth limit of an HPA without behavior: twice the
// replicas or 4, in every sync, however soon it follows another. From 1 replica
// that is 4, 8, 16.
//
// It mirrors [calculateScaleUpLimit].
//
// [calculateScaleUpLimit]: https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/controller/podautoscaler/horizontal.go#L1407
func limitPerSync(current int) int { return max(2*current, 4) }
