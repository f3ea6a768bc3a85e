package sim

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// The reasons that [HPA.Sync] gives. Those that Kubernetes shows in an HPA's
// conditions and events carry the names they have there.
const (
	ReasonAsMeasured     = "DesiredWithinRange"  // the arithmetic alone decided
	ReasonTolerance      = "WithinTolerance"     // the load differs too little to act
	ReasonUpStabilized   = "ScaleUpStabilized"   // a lower recommendation is still in the window
	ReasonDownStabilized = "ScaleDownStabilized" // a higher recommendation is still in the window
	ReasonUpLimit        = "ScaleUpLimit"        // the policies allow no more yet
	ReasonDownLimit      = "ScaleDownLimit"      // the policies allow no less yet
	ReasonTooMany        = "TooManyReplicas"     // maxReplicas
	ReasonTooFew         = "TooFewReplicas"      // minReplicas
	ReasonDisabled       = "ScalingDisabled"     // 0 replicas: waking up is KEDA's
)

// HPA is a HorizontalPodAutoscaler with one External metric of type
// AverageValue, and the memory its controller keeps of it. It is for one
// goroutine.
type HPA struct {
	Behavior Behavior
	Min, Max int

	recommendations []recommendation
	ups, downs      []scaleEvent
}

// recommendation is a number of replicas before stabilization.
type recommendation struct {
	at       time.Time
	replicas int
}

// Sync is one pass of the controller: the metric's value and target, in
// thousandths, and the current replicas in, the replicas to have and the reason
// out. It records the change as made, so the caller has to make it.
//
// A metric that could not be read is no argument here: the controller then
// holds, and leaves no trace, which is what not calling Sync does.
func (h *HPA) Sync(now time.Time, current int, valueMilli, targetMilli int64) (desired int, reason string) {
	if len(h.recommendations) == 0 {
		// The controller starts from what it finds, so that its own restart
		// does not scale a fleet in within the first window.
		h.recommendations = append(h.recommendations, recommendation{now, current})
	}
	switch {
	case current == 0:
		return 0, ReasonDisabled
	case current > h.Max:
		desired, reason = h.Max, ReasonTooMany
	case current < h.Min:
		desired, reason = h.Min, ReasonTooFew
	default:
		measured, within := h.measure(current, valueMilli, targetMilli)
		reason = ReasonAsMeasured
		if within {
			reason = ReasonTolerance
		}
		stable := h.stabilize(now, current, measured)
		switch {
		case stable == measured:
		case measured >= current:
			reason = ReasonUpStabilized
		default:
			reason = ReasonDownStabilized
		}
		if desired, reason = h.restrict(now, current, stable, reason); desired == current {
			return desired, reason
		}
	}
	h.record(now, desired-current)
	return desired, reason
}

// measure is the AverageValue arithmetic. within reports that the ratio is
// within the tolerance, and the replicas therefore those there are.
func (h *HPA) measure(current int, valueMilli, targetMilli int64) (replicas int, within bool) {
	value, target := float64(valueMilli), float64(targetMilli)
	if ratio := value / (target * float64(current)); 1-h.Behavior.Down.Tolerance <= ratio && ratio <= 1+h.Behavior.Up.Tolerance {
		return current, true
	}
	return int(min(math.Ceil(value/target), math.MaxInt32)), false
}

// stabilize keeps the recommendation between the smallest of the scale-up
// window and the largest of the scale-down window, and records it as it came.
func (h *HPA) stabilize(now time.Time, current, measured int) int {
	upCutoff, downCutoff := now.Add(-h.Behavior.Up.Window), now.Add(-h.Behavior.Down.Window)
	up, down := measured, measured
	kept := h.recommendations[:0]
	for _, r := range h.recommendations {
		if r.at.After(upCutoff) {
			up = min(up, r.replicas)
		}
		if r.at.After(downCutoff) {
			down = max(down, r.replicas)
		}
		if r.at.After(upCutoff) || r.at.After(downCutoff) {
			kept = append(kept, r)
		}
	}
	kept = append(kept, recommendation{now, measured})
	h.recommendations = kept
	return min(max(current, up), down)
}

// restrict applies the policies and the bounds.
func (h *HPA) restrict(now time.Time, current, wanted int, reason string) (int, string) {
	if wanted > current {
		limit, why := h.Max, ReasonTooMany
		if byPolicy := h.Behavior.Up.upLimit(now, current, h.ups, h.downs); byPolicy < limit {
			limit, why = byPolicy, ReasonUpLimit
		}
		if wanted > limit {
			return limit, why
		}
	}
	if wanted < current {
		limit, why := h.Min, ReasonTooFew
		if byPolicy := h.Behavior.Down.downLimit(now, current, h.ups, h.downs); byPolicy > limit {
			limit, why = byPolicy, ReasonDownLimit
		}
		if wanted < limit {
			return limit, why
		}
	}
	return wanted, reason
}

// record remembers a change. The controller keeps its lists short by reusing
// the place of an event that no policy of the same direction looks back on, and
// so do we: policies of the other direction may miss that event here as there.
func (h *HPA) record(now time.Time, change int) {
	events, rules := &h.ups, h.Behavior.Up
	if change < 0 {
		events, rules, change = &h.downs, h.Behavior.Down, -change
	}
	cutoff, event := now.Add(-rules.longestPeriod()), scaleEvent{now, change}
	for i := len(*events) - 1; i >= 0; i-- {
		if (*events)[i].at.Before(cutoff) {
			(*events)[i] = event
			return
		}
	}
	*events = append(*events, event)
}

// replicasFor is the HPA's division, without tolerance, behavior or bounds.
func replicasFor(valueMilli, targetMilli int64) int {
	if targetMilli <= 0 {
		return 0
	}
	return int(min(math.Ceil(float64(valueMilli)/float64(targetMilli)), math.MaxInt32))
}

// milli turns a number into thousandths the way KEDA does: printed with three
// decimals, and 0 where it is negative or no number.
func milli(v float64) int64 {
	if math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
		return 0
	}
	n, err := strconv.ParseInt(strings.Replace(strconv.FormatFloat(v, 'f', 3, 64), ".", "", 1), 10, 64)
	if err != nil { // more thousandths than an int64 holds
		return math.MaxInt64
	}
	return n
}
