package hpa

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"
)

// at is an instant of a test, in seconds.
func at(seconds float64) time.Time {
	return time.Unix(0, 0).Add(time.Duration(seconds * float64(time.Second)))
}

func pods(value, period int32) autoscalingv2.HPAScalingPolicy {
	return autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PodsScalingPolicy, Value: value, PeriodSeconds: period}
}

func percent(value, period int32) autoscalingv2.HPAScalingPolicy {
	return autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: value, PeriodSeconds: period}
}

// rules are those of one direction, without tolerance.
func rules(window int32, choose autoscalingv2.ScalingPolicySelect, policies ...autoscalingv2.HPAScalingPolicy) *autoscalingv2.HPAScalingRules {
	zero := resource.MustParse("0")
	return &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: &window, SelectPolicy: &choose, Policies: policies, Tolerance: &zero}
}

func both(scaleUp, scaleDown *autoscalingv2.HPAScalingRules) *autoscalingv2.HorizontalPodAutoscalerBehavior {
	return &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: scaleUp, ScaleDown: scaleDown}
}

// free is a behavior without windows, whose policies allow any change.
func free(upWindow, downWindow int32) *autoscalingv2.HorizontalPodAutoscalerBehavior {
	return both(rules(upWindow, autoscalingv2.MaxChangePolicySelect, pods(1000, 15)), rules(downWindow, autoscalingv2.MaxChangePolicySelect, pods(1000, 15)))
}

// guide is the behavior of the Lightning ASR self-hosting guide. Up: at once, by 100 %
// or 2 pods per 15 s, whichever is more. Down: after 300 s, by 50 % or one pod per 60 s,
// whichever is less.
func guide() *autoscalingv2.HorizontalPodAutoscalerBehavior {
	return both(rules(0, autoscalingv2.MaxChangePolicySelect, percent(100, 15), pods(2, 15)), rules(300, autoscalingv2.MinChangePolicySelect, percent(50, 60), pods(1, 60)))
}

// settled is a scale target whose pods all exist.
func settled(replicas int) Scale { return Scale{Spec: replicas, Status: replicas} }

// one is the metrics of an HPA with one, for a target of 5.
func one(value float64) []Metric { return []Metric{MetricOf(value, 5)} }

func TestSync(t *testing.T) {
	failed := Metric{Target: 1, Failed: true}
	for _, tc := range []struct {
		name    string
		scale   Scale
		metrics []Metric
		want    Result
	}{
		{"as measured", settled(2), one(11), Result{3, 3, DesiredWithinRange, ValidMetricFound, SucceededRescale, DesiredWithinRange}},
		{"within the tolerance", settled(10), one(50), Result{10, 10, WithinTolerance, ValidMetricFound, ReadyForNewScale, DesiredWithinRange}},
		{"no load", settled(10), one(0), Result{2, 0, TooFewReplicas, ValidMetricFound, SucceededRescale, TooFewReplicas}},
		{"more than maxReplicas", settled(10), one(1000), Result{20, 200, TooManyReplicas, ValidMetricFound, SucceededRescale, TooManyReplicas}},
		{"already above maxReplicas", settled(30), one(0), Result{20, 30, TooManyReplicas, "", SucceededRescale, ""}},
		{"already below minReplicas", settled(1), one(1000), Result{2, 1, TooFewReplicas, "", SucceededRescale, ""}},
		{"at zero", settled(0), one(1000), Result{0, 0, ScalingDisabled, ScalingDisabled, SucceededGetScale, ""}},
		{"pods are missing: the tolerance is of those there are", Scale{Spec: 10, Status: 8}, one(40), Result{8, 8, WithinTolerance, ValidMetricFound, SucceededRescale, DesiredWithinRange}},
		{"no pod yet", Scale{Spec: 10}, one(40), Result{8, 8, DesiredWithinRange, ValidMetricFound, SucceededRescale, DesiredWithinRange}},
		{"the largest of two", settled(3), []Metric{MetricOf(20, 5), MetricOf(35, 5)}, Result{7, 7, DesiredWithinRange, ValidMetricFound, SucceededRescale, DesiredWithinRange}},
		{"the metric failed", settled(5), []Metric{failed}, Result{5, 5, FailedGetExternalMetric, FailedGetExternalMetric, SucceededGetScale, ""}},
		{"one failed, and another grows", settled(5), []Metric{failed, MetricOf(35, 5)}, Result{7, 7, DesiredWithinRange, ValidMetricFound, SucceededRescale, DesiredWithinRange}},
		{"one failed, and another would shrink", settled(5), []Metric{MetricOf(15, 5), failed}, Result{5, 5, FailedGetExternalMetric, FailedGetExternalMetric, SucceededGetScale, ""}},
		{"one failed, and another asks for no change", settled(5), []Metric{MetricOf(25, 5), failed}, Result{5, 5, WithinTolerance, ValidMetricFound, ReadyForNewScale, DesiredWithinRange}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, _ := Spec{MinReplicas: 2, MaxReplicas: 20, Behavior: free(0, 0)}.Sync(at(0), tc.scale, tc.metrics, Memory{})
			require.Equal(t, tc.want, got)
		})
	}
}

// An answer that is discarded leaves no trace.
func TestSyncChangesNoMemory(t *testing.T) {
	s := Spec{MinReplicas: 1, MaxReplicas: 20, Behavior: guide()}
	_, before := s.Sync(at(0), settled(4), one(35), Memory{})
	_, before = s.Sync(at(40), settled(7), one(45), before)
	first, after := s.Sync(at(500), settled(9), one(0), before)
	_, _ = s.Sync(at(510), settled(9), one(100), before)
	_, _ = s.Sync(at(515), settled(9), one(100), after)
	again, afterwards := s.Sync(at(500), settled(9), one(0), before)
	require.Equal(t, first, again)
	require.Equal(t, after, afterwards)
}

func TestTolerancePerDirection(t *testing.T) {
	b := free(0, 0)
	half := resource.MustParse("0.5")
	b.ScaleDown.Tolerance = &half
	s := Spec{MinReplicas: 1, MaxReplicas: 20, Behavior: b}
	r, m := s.Sync(at(0), settled(10), one(51), Memory{})
	require.Equal(t, 11, r.Replicas)
	r, _ = s.Sync(at(15), settled(10), one(25), m)
	require.Equal(t, 10, r.Replicas)
	require.Equal(t, WithinTolerance, r.Reason)
}

func TestStabilization(t *testing.T) {
	for _, tc := range []struct {
		name             string
		upWindow, window int32
		before           []recommendation
		current, wanted  int
		want             int
		reason           Reason
	}{
		{"the highest of the scale-down window", 0, 180, []recommendation{{4, at(-120)}, {5, at(-60)}}, 100, 3, 5, ScaleDownStabilized},
		{"the lowest of the scale-up window", 300, 0, []recommendation{{4, at(-120)}, {5, at(-60)}}, 1, 7, 4, ScaleUpStabilized},
		{"the scale-up window does not hold a scale-down", 300, 0, []recommendation{{1, at(-120)}, {2, at(-60)}}, 100, 3, 3, DesiredWithinRange},
		{"the scale-down window does not hold a scale-up", 0, 300, []recommendation{{4, at(-120)}, {5, at(-60)}}, 1, 3, 3, DesiredWithinRange},
		{"a recommendation as old as the window is outside", 0, 60, []recommendation{{9, at(-60)}, {6, at(-59)}}, 10, 3, 6, ScaleDownStabilized},
		{"expired recommendations", 0, 180, []recommendation{{10, at(-600)}, {4, at(-60)}, {5, at(-120)}, {9, at(-540)}}, 100, 3, 5, ScaleDownStabilized},
		{"between both windows nothing moves", 300, 300, []recommendation{{2, at(-6000)}, {1, at(-180)}}, 2, 3, 2, ScaleUpStabilized},
		{"nor down", 300, 300, []recommendation{{2, at(-6000)}, {3, at(-180)}}, 2, 1, 2, ScaleDownStabilized},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := Spec{MinReplicas: 1, MaxReplicas: 100, Behavior: free(tc.upWindow, tc.window)}
			r, _ := s.Sync(at(0), settled(tc.current), []Metric{MetricOf(float64(tc.wanted), 1)}, Memory{recommendations: tc.before})
			require.Equal(t, tc.want, r.Replicas)
			require.Equal(t, tc.reason, r.Reason)
		})
	}
}

// A restart of the controller does not shrink a fleet within the scale-down window.
func TestFirstSyncRemembersThePresentCount(t *testing.T) {
	s := Spec{MinReplicas: 1, MaxReplicas: 20, Behavior: guide()}
	var r Result
	var m Memory
	for second := 0.0; second < 300; second += 15 {
		r, m = s.Sync(at(second), settled(8), one(0), m)
		require.Equal(t, 8, r.Replicas)
		require.Equal(t, ScaleDownStabilized, r.Reason)
	}
	r, _ = s.Sync(at(300), settled(8), one(0), m)
	require.Equal(t, 7, r.Replicas)
	require.Equal(t, ScaleDownLimit, r.Reason)
}

func TestLimits(t *testing.T) {
	const most, least, disabled = autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect, autoscalingv2.DisabledPolicySelect
	for _, tc := range []struct {
		name       string
		policies   []autoscalingv2.HPAScalingPolicy
		choose     autoscalingv2.ScalingPolicySelect
		current    int
		ups, downs []event
		up, down   int
	}{
		{name: "the smaller change", policies: []autoscalingv2.HPAScalingPolicy{pods(2, 60), percent(50, 60)}, choose: least, current: 5, up: 7, down: 3},
		{name: "the smaller change, of one", policies: []autoscalingv2.HPAScalingPolicy{pods(2, 60), percent(50, 60)}, choose: least, current: 1, up: 2, down: 0},
		{name: "the larger change", policies: []autoscalingv2.HPAScalingPolicy{pods(2, 60), percent(50, 60)}, choose: most, current: 10, up: 15, down: 5},
		{name: "no policy counts", policies: []autoscalingv2.HPAScalingPolicy{pods(2, 60)}, choose: disabled, current: 10, up: 10, down: 10},
		{name: "no policy", policies: []autoscalingv2.HPAScalingPolicy{}, choose: most, current: 10, up: 10, down: 10},
		{name: "growth by a percentage is rounded up", policies: []autoscalingv2.HPAScalingPolicy{percent(10, 60)}, choose: most, current: 3, up: 4, down: 2},
		{name: "counted from the beginning of the period", policies: []autoscalingv2.HPAScalingPolicy{percent(50, 60)}, choose: most, current: 12, ups: []event{{change: 4, at: at(-30)}}, up: 12, down: 4},
		{name: "used up", policies: []autoscalingv2.HPAScalingPolicy{pods(2, 60)}, choose: most, current: 12, ups: []event{{change: 4, at: at(-30)}}, up: 12, down: 6},
		{name: "a decrease allows more growth", policies: []autoscalingv2.HPAScalingPolicy{pods(2, 60)}, choose: most, current: 8, downs: []event{{change: 3, at: at(-30)}}, up: 13, down: 8},
		{name: "a change as old as the period is outside", policies: []autoscalingv2.HPAScalingPolicy{pods(2, 60)}, choose: most, current: 8, ups: []event{{change: 3, at: at(-60)}}, up: 10, down: 6},
		{name: "more pods than an int32 holds", policies: []autoscalingv2.HPAScalingPolicy{pods(2147483647, 60)}, choose: most, current: 8, up: 8, down: -2147483639},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := rules(0, tc.choose, tc.policies...)
			m := Memory{ups: tc.ups, downs: tc.downs}
			require.Equal(t, tc.up, m.limit(at(0), up, tc.current, r))
			require.Equal(t, tc.down, m.limit(at(0), down, tc.current, r))
		})
	}
}

// follow syncs every 15 s with a constant value, and returns the replicas after each.
func follow(s Spec, m Memory, from float64, current, syncs int, value float64) (replicas []int, after Memory) {
	for i := range syncs {
		var r Result
		r, m = s.Sync(at(from+15*float64(i)), settled(current), one(value), m)
		current = r.Replicas
		replicas = append(replicas, current)
	}
	return replicas, m
}

func TestGuide(t *testing.T) {
	s := Spec{MinReplicas: 1, MaxReplicas: 20, Behavior: guide()}
	replicas, m := follow(s, Memory{}, 0, 1, 5, 100)
	require.Equal(t, []int{3, 6, 12, 20, 20}, replicas)
	// The last recommendation of 20 is of t=60: it holds until t=360, and then
	// one pod goes per minute, the lesser of the two policies.
	replicas, m = follow(s, m, 75, 20, 19, 0)
	require.Equal(t, 20, replicas[18])
	replicas, _ = follow(s, m, 360, 20, 9, 0)
	require.Equal(t, []int{19, 19, 19, 19, 18, 18, 18, 18, 17}, replicas)
}

// Half a behavior, or an empty one, has the defaults for the rest.
func TestDefaults(t *testing.T) {
	window, most, least := int32(15), autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect
	empty := Spec{MinReplicas: 1, MaxReplicas: 100, Behavior: both(nil, nil)}
	replicas, m := follow(empty, Memory{}, 0, 1, 4, 100)
	require.Equal(t, []int{5, 10, 20, 20}, replicas)
	replicas, _ = follow(empty, m, 60, 20, 21, 0)
	require.Equal(t, []int{20, 1}, replicas[18:20], "the last recommendation of 20 is of t=45")

	require.Nil(t, Defaulted(nil))
	half := Defaulted(both(&autoscalingv2.HPAScalingRules{SelectPolicy: &least}, &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: &window}))
	none, policy := int32(0), []autoscalingv2.HPAScalingPolicy{percent(100, 15)}
	require.Equal(t, &autoscalingv2.HPAScalingRules{
		StabilizationWindowSeconds: &none, SelectPolicy: &least, Policies: []autoscalingv2.HPAScalingPolicy{pods(4, 15), percent(100, 15)},
	}, half.ScaleUp)
	require.Equal(t, &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: &window, SelectPolicy: &most, Policies: policy}, half.ScaleDown)
}

// Without a behavior the growth limit is per sync, also where one follows at once.
func TestWithoutBehavior(t *testing.T) {
	s := Spec{MinReplicas: 1, MaxReplicas: 100}
	replicas, m := follow(s, Memory{}, 0, 1, 3, 500)
	require.Equal(t, []int{4, 8, 16}, replicas)
	r, m := s.Sync(at(30), settled(16), one(500), m)
	require.Equal(t, Result{32, 100, ScaleUpLimit, ValidMetricFound, SucceededRescale, ScaleUpLimit}, r)
	r, m = s.Sync(at(330), settled(32), one(0), m)
	require.Equal(t, Result{64, 0, ScaleUpLimit, ValidMetricFound, SucceededRescale, ScaleUpLimit}, r, "the highest recommendation is followed, and is exactly 300 s old")
	r, _ = s.Sync(at(330.001), settled(32), one(0), m)
	require.Equal(t, 1, r.Replicas)
}

// The controller writes a new event over one that its own direction has
// forgotten, although the other direction may still look back on it.
func TestForgottenEventsAreReused(t *testing.T) {
	b := guide()
	b.ScaleDown.StabilizationWindowSeconds = new(int32)
	s := Spec{MinReplicas: 1, MaxReplicas: 20, Behavior: b}
	_, m := s.Sync(at(0), settled(4), one(35), Memory{}) // +3
	_, m = s.Sync(at(40), settled(7), one(45), m)        // +2, in the place of +3
	require.Equal(t, []event{{change: 2, at: at(40)}}, m.ups)
	r, _ := s.Sync(at(55), settled(9), one(0), m)
	require.Equal(t, 6, r.Replicas) // 9-2 at the beginning of the minute, less one
	require.Equal(t, ScaleDownLimit, r.Reason)
}

func TestTimeToGrow(t *testing.T) {
	for name, tc := range map[string]struct {
		behavior *autoscalingv2.HorizontalPodAutoscalerBehavior
		from, to int
		takes    time.Duration
		ok       bool
	}{
		"without behavior":                    {nil, 1, 20, 45 * time.Second, true},
		"an empty behavior":                   {both(nil, nil), 1, 20, 30 * time.Second, true},
		"a window":                            {both(rules(50, autoscalingv2.MaxChangePolicySelect, pods(100, 15)), nil), 1, 20, time.Minute, true},
		"one per minute":                      {both(rules(0, autoscalingv2.MaxChangePolicySelect, pods(1, 60)), nil), 1, 4, 2 * time.Minute, true},
		"one per minute, and more than a day": {both(rules(0, autoscalingv2.MaxChangePolicySelect, pods(1, 1800)), nil), 1, 51, 0, false},
		"disabled":                            {both(rules(0, autoscalingv2.DisabledPolicySelect, pods(1, 60)), nil), 1, 4, 0, false},
		"nothing to grow":                     {nil, 4, 4, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			takes, ok := Spec{MinReplicas: 1, MaxReplicas: 100, Behavior: tc.behavior}.TimeToGrow(tc.from, tc.to)
			require.Equal(t, tc.takes, takes)
			require.Equal(t, tc.ok, ok)
		})
	}
}
