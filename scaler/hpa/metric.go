package hpa

import (
	"math"
	"strconv"
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

// Milli returns a number in thousandths, as KEDA passes it to the HPA: printed
// with three decimals. 85.4994 gives 85499. NaN, infinite and negative numbers
// give 0, and a number beyond int64 gives the largest int64.
//
// It mirrors KEDA's [quantityFromFloat64].
//
// [quantityFromFloat64]: https://github.com/kedacore/keda/blob/v2.21.0/pkg/scalers/scaler.go#L162
func Milli(v float64) int64 {
	if math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
		return 0
	}
	text := strings.Replace(strconv.FormatFloat(v, 'f', 3, 64), ".", "", 1)
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil { // the only error of such a text is its range
		return math.MaxInt64
	}
	return n
}

// Metric is one External metric of an HPA, with a target of type AverageValue.
type Metric struct {
	// Value is the sum over the metric's series, and Target the value per replica.
	// Both are in thousandths. Value is not negative, as KEDA passes no such number;
	// Target is at least 1, as the API server demands.
	Value, Target int64
	// Failed reports that the metric could not be read. Value has no effect then.
	Failed bool
}

// MetricOf returns the metric for a value and a target in their own unit. A
// target below a thousandth counts as a thousandth.
func MetricOf(value, target float64) Metric {
	return Metric{Value: Milli(value), Target: max(1, Milli(target))}
}

// Ceil returns the value over the target, rounded up: 10001/5000 gives 3. It is
// at most the largest int32.
func (m Metric) Ceil() int {
	return int(min(math.Ceil(float64(m.Value)/float64(m.Target)), math.MaxInt32))
}

// Replicas returns the replicas that the metric proposes. tolerated reports that
// the value per replica is within the tolerance; the proposal is then the count
// of pods that exist, even where spec.replicas is another.
//
// With a target of 5 and 10 pods, the default tolerance covers 45 to 55:
// 55 proposes 10, and 55.001 proposes 12. Without any pod there is no value per
// replica, so 0 proposes 0 and 11 proposes 3.
//
// It mirrors [GetExternalPerPodMetricReplicas].
//
// [GetExternalPerPodMetricReplicas]: https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/controller/podautoscaler/replica_calculator.go#L382
func (m Metric) Replicas(statusReplicas int, t Tolerances) (replicas int, tolerated bool) {
	if t.contain(m.ratio(statusReplicas)) {
		return statusReplicas, true
	}
	return m.Ceil(), false
}

// ratio is the value per replica over the target: infinite or NaN without a
// replica.
func (m Metric) ratio(replicas int) float64 {
	return float64(m.Value) / (float64(m.Target) * float64(replicas))
}

// Tolerances are the deviations from the target on which the HPA does not act, as
// shares of it: 0.1 is 10 %. [TolerancesOf] nil returns the defaults.
type Tolerances struct {
	Up, Down float64
}

// DefaultTolerance applies to a direction without a tolerance of its own
// (kube-controller-manager --horizontal-pod-autoscaler-tolerance).
const DefaultTolerance = 0.1

// TolerancesOf returns the tolerances of an HPA's behavior, which may be nil.
//
// It mirrors [tolerancesForHpa].
//
// [tolerancesForHpa]: https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/controller/podautoscaler/horizontal.go#L1575
func TolerancesOf(behavior *autoscalingv2.HorizontalPodAutoscalerBehavior) Tolerances {
	t := Tolerances{Up: DefaultTolerance, Down: DefaultTolerance}
	if behavior == nil {
		return t
	}
	if up := behavior.ScaleUp; up != nil && up.Tolerance != nil {
		t.Up = up.Tolerance.AsApproximateFloat64()
	}
	if down := behavior.ScaleDown; down != nil && down.Tolerance != nil {
		t.Down = down.Tolerance.AsApproximateFloat64()
	}
	return t
}

func (t Tolerances) contain(ratio float64) bool { return 1-t.Down <= ratio && ratio <= 1+t.Up }

// ValueFor returns a value, in thousandths, that proposes the given replicas while
// so many pods exist. It is the target times the replicas; where the tolerance
// covers that value, it is the largest smaller one that the tolerance does not
// cover and that still rounds up to the replicas. ok is false where there is none.
//
// With a target of 5 and the default tolerance: 10 from 20 pods is 50; 18 from 19
// pods is 85.499, as 90 is within 10 % of 95; 28 from 30 pods is not ok, as 135
// rounds up to 27; nor is 12 from 11, as no larger value rounds up to 12.
func ValueFor(replicas, statusReplicas int, target int64, t Tolerances) (value int64, ok bool) {
	m := Metric{Value: target * int64(replicas), Target: target}
	whole := m.Value
	if replicas == statusReplicas || !t.contain(m.ratio(statusReplicas)) {
		return whole, true
	}
	// One above the smallest value within the tolerance, as its product may be
	// rounded: two steps, or three.
	m.Value = int64((1-t.Down)*float64(target)*float64(statusReplicas)) + 1
	for t.contain(m.ratio(statusReplicas)) {
		m.Value--
	}
	if replicas > statusReplicas || m.Value <= whole-target || m.Value < 0 {
		return whole, false
	}
	return m.Value, true
}
