package sim

import (
	"math"
	"slices"
	"time"
)

// DefaultTolerance is the share by which the HPA lets the load of a replica
// differ from its target without acting, where the behavior does not say
// otherwise (kube-controller-manager --horizontal-pod-autoscaler-tolerance).
const DefaultTolerance = 0.1

// PolicyType says in what a [Policy] counts.
type PolicyType string

// The units of a policy's value.
const (
	Pods    PolicyType = "Pods"
	Percent PolicyType = "Percent"
)

// Select says which of several policies counts. The zero value is SelectMax,
// as in Kubernetes.
type Select int

// The ways to select a policy: the one that allows the largest change, the one
// that allows the smallest, or none at all.
const (
	SelectMax Select = iota
	SelectMin
	SelectDisabled
)

// Policy allows a change of Value pods, or percent of the replicas at the
// period's beginning, within any Period.
type Policy struct {
	Type   PolicyType
	Value  int
	Period time.Duration
}

// Rules are the behavior in one direction.
type Rules struct {
	// Window is the stabilization window: the mildest recommendation within it
	// is the one that is followed.
	Window   time.Duration
	Policies []Policy
	Select   Select
	// Tolerance is a share of the target. 0 acts on every difference; the
	// cluster's default is DefaultTolerance.
	Tolerance float64
}

// Behavior is an HPA's spec.behavior, with nothing left unset.
type Behavior struct {
	Up, Down Rules
}

// DefaultBehavior is what Kubernetes fills in for a behavior that leaves
// everything unset: up by 4 pods or 100 % per 15 s, whichever is more, and down
// to what the last 300 s needed.
func DefaultBehavior() Behavior {
	return Behavior{
		Up: Rules{
			Policies:  []Policy{{Pods, 4, 15 * time.Second}, {Percent, 100, 15 * time.Second}},
			Tolerance: DefaultTolerance,
		},
		Down: Rules{
			Window:    300 * time.Second,
			Policies:  []Policy{{Percent, 100, 15 * time.Second}},
			Tolerance: DefaultTolerance,
		},
	}
}

// GuideBehavior is that of the Lightning ASR self-hosting guide: up at once by
// 100 % or 2 pods per 15 s, whichever is more; down after 300 s by 50 % or one
// pod per 60 s, whichever is less.
func GuideBehavior(tolerance float64) Behavior {
	return Behavior{
		Up: Rules{
			Policies:  []Policy{{Percent, 100, 15 * time.Second}, {Pods, 2, 15 * time.Second}},
			Tolerance: tolerance,
		},
		Down: Rules{
			Window:    300 * time.Second,
			Policies:  []Policy{{Percent, 50, 60 * time.Second}, {Pods, 1, 60 * time.Second}},
			Select:    SelectMin,
			Tolerance: tolerance,
		},
	}
}

// longestPeriod is how far back the policies look.
func (r Rules) longestPeriod() time.Duration {
	var longest time.Duration
	for _, p := range r.Policies {
		longest = max(longest, p.Period)
	}
	return longest
}

// scaleEvent is one change the HPA made; change is positive in both directions.
type scaleEvent struct {
	at     time.Time
	change int
}

// changed sums the changes less than period old.
func changed(events []scaleEvent, now time.Time, period time.Duration) int {
	sum, cutoff := 0, now.Add(-period)
	for _, e := range events {
		if e.at.After(cutoff) {
			sum += e.change
		}
	}
	return sum
}

// upLimit is the largest number of replicas that the policies allow now. It is
// never below current: a limit used up does not take replicas away.
func (r Rules) upLimit(now time.Time, current int, ups, downs []scaleEvent) int {
	return max(current, r.limit(now, current, ups, downs, +1))
}

// downLimit is the smallest number of replicas that the policies allow now. It
// is never above current.
func (r Rules) downLimit(now time.Time, current int, ups, downs []scaleEvent) int {
	return min(current, r.limit(now, current, ups, downs, -1))
}

// limit lets each policy propose a number, counted from the replicas at the
// beginning of its period, and selects one. The sign is that of the direction.
func (r Rules) limit(now time.Time, current int, ups, downs []scaleEvent, sign int) int {
	if r.Select == SelectDisabled || len(r.Policies) == 0 {
		return current
	}
	var best int
	for i, p := range r.Policies {
		start := current - changed(ups, now, p.Period) + changed(downs, now, p.Period)
		proposed := p.propose(start, sign)
		larger := sign*proposed > sign*best
		if i == 0 || larger == (r.Select == SelectMax) {
			best = proposed
		}
	}
	return best
}

// propose is the replicas that the policy allows when its period began with start.
func (p Policy) propose(start, sign int) int {
	if p.Type == Pods {
		return start + sign*p.Value
	}
	// Any percentage moves by a pod at least: 10 % of 3 would otherwise be stuck.
	remains := float64(start) * (1 + float64(sign*p.Value)/100)
	if sign > 0 {
		return int(math.Ceil(remains))
	}
	return int(remains)
}

// TimeToGrow is how long an HPA that acts every sync takes from one number of
// replicas to another, once it wants that; false where the policies keep it from
// there for a day.
func (r Rules) TimeToGrow(from, to int, sync time.Duration) (time.Duration, bool) {
	const atMost = 24 * time.Hour
	var begin time.Time
	var ups []scaleEvent
	for t := r.Window; t <= atMost; t += sync {
		now := begin.Add(t)
		next := min(to, r.upLimit(now, from, ups, nil))
		if next > from {
			ups = append(ups, scaleEvent{now, next - from})
			from = next
		}
		ups = slices.DeleteFunc(ups, func(e scaleEvent) bool { return now.Sub(e.at) >= r.longestPeriod() })
		if from >= to {
			return t, true
		}
	}
	return 0, false
}
