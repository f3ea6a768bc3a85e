package hpa

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"
	"pgregory.net/rapid"
)

func TestMilli(t *testing.T) {
	for v, want := range map[float64]int64{
		0: 0, 5: 5000, 0.0004: 0, 0.0005: 1, 0.0333: 33, 85.499: 85499, 1.0015: 1002,
		-1: 0, math.Inf(1): 0, math.Inf(-1): 0, 1e300: math.MaxInt64,
	} {
		require.Equal(t, want, Milli(v), "%v", v)
	}
	require.Zero(t, Milli(math.NaN()))
}

func TestMetricReplicas(t *testing.T) {
	for _, tc := range []struct {
		name      string
		metric    Metric
		status    int
		tolerance float64
		want      int
		tolerated bool
	}{
		{"rounded up", MetricOf(11, 5), 1, 0.1, 3, false},
		{"exact", MetricOf(10, 5), 1, 0.1, 2, false},
		{"a thousandth more", MetricOf(10.001, 5), 1, 0, 3, false},
		{"a rounded target", MetricOf(0.1, 0.0333), 1, 0, 4, false},
		{"at the upper tolerance", MetricOf(55, 5), 10, 0.1, 10, true},
		{"above the upper tolerance", MetricOf(55.001, 5), 10, 0.1, 12, false},
		{"at the lower tolerance", MetricOf(45, 5), 10, 0.1, 10, true},
		{"below the lower tolerance", MetricOf(44.999, 5), 10, 0.1, 9, false},
		{"one pod less is within the tolerance", MetricOf(90, 5), 19, 0.1, 19, true},
		{"and the value below it is not", MetricOf(85.499, 5), 19, 0.1, 18, false},
		{"no tolerance", MetricOf(90, 5), 19, 0, 18, false},
		{"no load", MetricOf(0, 5), 10, 0.1, 0, false},
		{"no pod", MetricOf(11, 5), 0, 0.1, 3, false},
		{"neither load nor pod", MetricOf(0, 5), 0, 0.1, 0, false},
		{"more than an int32 holds", Metric{Value: math.MaxInt64, Target: 1}, 10, 0.1, math.MaxInt32, false},
		{"a target below a thousandth", MetricOf(0.003, 0.0001), 1, 0.1, 3, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			replicas, tolerated := tc.metric.Replicas(tc.status, Tolerances{Up: tc.tolerance, Down: tc.tolerance})
			require.Equal(t, tc.want, replicas)
			require.Equal(t, tc.tolerated, tolerated)
		})
	}
}

func TestTolerancesOf(t *testing.T) {
	zero, twentieth := resource.MustParse("0"), resource.MustParse("50m")
	require.Equal(t, Tolerances{Up: 0.1, Down: 0.1}, TolerancesOf(nil))
	require.Equal(t, TolerancesOf(nil), TolerancesOf(&autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleDown: &autoscalingv2.HPAScalingRules{}}))
	require.Equal(t, Tolerances{Up: 0, Down: 0.05}, TolerancesOf(&autoscalingv2.HorizontalPodAutoscalerBehavior{
		ScaleUp: &autoscalingv2.HPAScalingRules{Tolerance: &zero}, ScaleDown: &autoscalingv2.HPAScalingRules{Tolerance: &twentieth},
	}))
}

func TestValueFor(t *testing.T) {
	for _, tc := range []struct {
		name             string
		replicas, status int
		tolerances       Tolerances
		value            int64
		ok               bool
	}{
		{"beyond the tolerance", 10, 20, TolerancesOf(nil), 50_000, true},
		{"within it, with a smaller value beyond it", 18, 19, TolerancesOf(nil), 85_499, true},
		{"within it, and no smaller value", 28, 30, TolerancesOf(nil), 140_000, false},
		{"within it, upwards", 12, 11, TolerancesOf(nil), 60_000, false},
		{"the same", 10, 10, TolerancesOf(nil), 50_000, true},
		{"no tolerance", 29, 30, Tolerances{}, 145_000, true},
		{"a tolerance of its own", 9, 10, Tolerances{Up: 0, Down: 0.15}, 42_499, true},
		{"every value is within the tolerance", 0, 10, Tolerances{Down: 1}, 0, false},
		{"no pod", 3, 0, TolerancesOf(nil), 15_000, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			value, ok := ValueFor(tc.replicas, tc.status, 5000, tc.tolerances)
			require.Equal(t, tc.value, value)
			require.Equal(t, tc.ok, ok)
		})
	}
}

// A value that is ok proposes the replicas; where none is, no value does.
func TestValueForProposesTheReplicas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		target := rapid.Int64Range(1, 3000).Draw(t, "target")
		replicas, status := rapid.IntRange(0, 60).Draw(t, "replicas"), rapid.IntRange(0, 60).Draw(t, "status")
		tolerances := Tolerances{
			Up:   rapid.SampledFrom([]float64{0, 0.05, 0.1, 0.33}).Draw(t, "up"),
			Down: rapid.SampledFrom([]float64{0, 0.05, 0.1, 0.33}).Draw(t, "down"),
		}
		value, ok := ValueFor(replicas, status, target, tolerances)
		if got, _ := (Metric{Value: value, Target: target}).Replicas(status, tolerances); ok {
			require.Equal(t, replicas, got)
			return
		}
		for v := max(0, target*int64(replicas-1)+1); v <= target*int64(replicas); v++ {
			got, _ := Metric{Value: v, Target: target}.Replicas(status, tolerances)
			require.NotEqual(t, replicas, got, "value %d", v)
		}
	})
}
