package hpa

import (
	"slices"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

// Memory is what the controller remembers of one HPA between its syncs. The zero
// value is that of a new HPA, or of a controller that has just started. A Memory
// never changes: [Spec.Sync] returns another one.
type Memory struct {
	recommendations []recommendation
	ups, downs      []event
}

// recommendation is a count before stabilization.
type recommendation struct {
	replicas int
	at       time.Time
}

// event is one change of spec.replicas; change is positive in both directions.
type event struct {
	change int
	at     time.Time
	// reusable: no policy of its own direction looked back on it at some sync.
	reusable bool
}

func (m Memory) clone() Memory {
	return Memory{
		recommendations: slices.Clone(m.recommendations),
		ups:             slices.Clone(m.ups),
		downs:           slices.Clone(m.downs),
	}
}

// stabilize keeps a recommendation between the lowest of the scale-up window and
// the highest of the scale-down window, and records it as it came.
//
// With 10 replicas, recommendations of 4 (120 s old) and 5 (60 s old), and a
// scale-down window of 180 s, a recommendation of 3 gives 5.
//
// It mirrors [stabilizeRecommendationWithBehaviors].
//
// [stabilizeRecommendationWithBehaviors]: https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/controller/podautoscaler/horizontal.go#L1257
func (m *Memory) stabilize(now time.Time, current, proposed int, b *autoscalingv2.HorizontalPodAutoscalerBehavior) int {
	upCutoff, downCutoff := now.Add(-window(b.ScaleUp)), now.Add(-window(b.ScaleDown))
	lowest, highest, reuse := proposed, proposed, -1
	for i, r := range m.recommendations {
		if r.at.After(upCutoff) {
			lowest = min(lowest, r.replicas)
		}
		if r.at.After(downCutoff) {
			highest = max(highest, r.replicas)
		}
		if r.at.Before(upCutoff) && r.at.Before(downCutoff) {
			reuse = i
		}
	}
	m.recommend(reuse, recommendation{proposed, now})
	return min(max(current, lowest), highest)
}

// stabilizeDown is the stabilization of an HPA without behavior. Unlike the other
// it counts a recommendation that is exactly as old as the window.
//
// It mirrors [stabilizeRecommendation].
//
// [stabilizeRecommendation]: https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/controller/podautoscaler/horizontal.go#L1083
func (m *Memory) stabilizeDown(now time.Time, proposed int) int {
	cutoff := now.Add(-DefaultScaleDownWindow)
	highest, reuse := proposed, -1
	for i, r := range m.recommendations {
		if r.at.Before(cutoff) {
			reuse = i
		} else {
			highest = max(highest, r.replicas)
		}
	}
	m.recommend(reuse, recommendation{proposed, now})
	return highest
}

// recommend records a recommendation in the place of an expired one, or of none
// (-1). An expired recommendation that stays counts again if a window becomes
// longer.
func (m *Memory) recommend(reuse int, r recommendation) {
	if reuse < 0 {
		m.recommendations = append(m.recommendations, r)
	} else {
		m.recommendations[reuse] = r
	}
}

// record remembers a change of spec.replicas. The controller reuses the place of
// an event that is older than the policies of its own direction. A policy of the
// other direction can have a longer period, and misses that event.
//
// It mirrors [storeScaleEvent].
//
// [storeScaleEvent]: https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/controller/podautoscaler/horizontal.go#L1206
func (m *Memory) record(now time.Time, change int, b *autoscalingv2.HorizontalPodAutoscalerBehavior) {
	events, rules := &m.ups, b.ScaleUp
	if change < 0 {
		events, rules, change = &m.downs, b.ScaleDown, -change
	}
	cutoff, reuse := now.Add(-longestPeriod(rules)), -1
	for i := range *events {
		e := &(*events)[i]
		e.reusable = e.reusable || e.at.Before(cutoff)
		if e.reusable {
			reuse = i
		}
	}
	if reuse < 0 {
		*events = append(*events, event{change: change, at: now})
	} else {
		(*events)[reuse] = event{change: change, at: now}
	}
}

// changed sums the changes less than a period old.
//
// It mirrors [getReplicasChangePerPeriod].
//
// [getReplicasChangePerPeriod]: https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/controller/podautoscaler/horizontal.go#L1181
func changed(events []event, now time.Time, periodSeconds int32) int {
	sum, cutoff := 0, now.Add(-time.Duration(periodSeconds)*time.Second)
	for _, e := range events {
		if e.at.After(cutoff) {
			sum += e.change
		}
	}
	return sum
}
