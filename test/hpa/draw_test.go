package hpa

import (
	"math"
	"math/rand/v2"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"
)

// draw is a source of random choices.
type draw struct{ *rand.Rand }

func (d draw) chance(percent int) bool { return d.IntN(100) < percent }

func one[T any](d draw, of ...T) T { return of[d.IntN(len(of))] }

// behavior is absent, half given, or given.
func (d draw) behavior() *autoscalingv2.HorizontalPodAutoscalerBehavior {
	if d.chance(20) {
		return nil
	}
	return &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: d.rules(), ScaleDown: d.rules()}
}

func (d draw) rules() *autoscalingv2.HPAScalingRules {
	if d.chance(15) {
		return nil
	}
	r := &autoscalingv2.HPAScalingRules{}
	if d.chance(70) {
		window := one[int32](d, 0, 0, 15, 20, 30, 60, 300)
		r.StabilizationWindowSeconds = &window
	}
	if d.chance(60) {
		choose := one(d, autoscalingv2.MaxChangePolicySelect, autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect, autoscalingv2.MinChangePolicySelect, autoscalingv2.DisabledPolicySelect)
		r.SelectPolicy = &choose
	}
	if d.chance(60) {
		tolerance := resource.MustParse(one(d, "0", "0", "0.05", "0.1", "0.3", "25m"))
		r.Tolerance = &tolerance
	}
	if d.chance(80) {
		for range 1 + d.IntN(3) {
			r.Policies = append(r.Policies, d.policy())
		}
	}
	return r
}

func (d draw) policy() autoscalingv2.HPAScalingPolicy {
	p := autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PodsScalingPolicy, PeriodSeconds: one[int32](d, 1, 15, 20, 30, 60, 180, 1800)}
	if p.Value = one[int32](d, 1, 2, 4, 10, 100); d.chance(50) {
		p.Type, p.Value = autoscalingv2.PercentScalingPolicy, one[int32](d, 5, 10, 50, 100, 900)
	}
	if d.chance(1) {
		p.Value = math.MaxInt32
	}
	return p
}

// target is that of a metric, in thousandths.
func (d draw) target() int64 {
	if d.chance(25) {
		return 1 + d.Int64N(9000)
	}
	return 1000 * (1 + d.Int64N(8))
}

// value draws the next value of a metric, in thousandths: none, some, the one before,
// a little more or less, or one at the edge of a tolerance.
func (d draw) value(before, target int64, spec, status, most int32) int64 {
	switch d.IntN(7) {
	case 0:
		return 0
	case 1:
		return target * d.Int64N(int64(most)+5)
	case 2:
		return max(0, before+d.Int64N(3*target+1)-target)
	case 3:
		return int64(float64(spec) * float64(target) * (0.85 + 0.3*d.Float64()))
	case 4:
		share := one(d, 0.7, 0.9, 0.95, 0.975, 1, 1.025, 1.05, 1.1, 1.3)
		return max(0, int64(math.Round(share*float64(target)*float64(status)))+d.Int64N(3)-1)
	case 5:
		if d.chance(2) {
			return one(d, math.MaxInt64, math.MaxInt64/1000, int64(math.MaxInt32)*target)
		}
	}
	return before
}
