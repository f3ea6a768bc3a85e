package hpa

import (
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

// SyncPeriod is the time between two syncs of an HPA
// (kube-controller-manager --horizontal-pod-autoscaler-sync-period). From
// Kubernetes 1.37 on, a change of the HPA's spec causes a sync at once.
const SyncPeriod = 15 * time.Second

// Reason names what determined a result. All but [WithinTolerance] are the
// reasons that Kubernetes shows in the conditions of an HPA.
type Reason string

// The reasons. ScaleUpLimit and ScaleDownLimit are the policies'; TooManyReplicas
// and TooFewReplicas are the bounds.
const (
	WithinTolerance Reason = "WithinTolerance" // of this package: the metrics ask for no change

	// Condition ScalingActive.
	ValidMetricFound        Reason = "ValidMetricFound"
	ScalingDisabled         Reason = "ScalingDisabled"         // spec.replicas is 0
	FailedGetExternalMetric Reason = "FailedGetExternalMetric" // the HPA holds

	// Condition AbleToScale.
	SucceededGetScale   Reason = "SucceededGetScale"
	ReadyForNewScale    Reason = "ReadyForNewScale"
	ScaleUpStabilized   Reason = "ScaleUpStabilized"   // a lower recommendation is in the window
	ScaleDownStabilized Reason = "ScaleDownStabilized" // a higher recommendation is in the window
	SucceededRescale    Reason = "SucceededRescale"

	// Condition ScalingLimited, which is true but for DesiredWithinRange.
	DesiredWithinRange Reason = "DesiredWithinRange"
	ScaleUpLimit       Reason = "ScaleUpLimit"
	ScaleDownLimit     Reason = "ScaleDownLimit"
	TooManyReplicas    Reason = "TooManyReplicas"
	TooFewReplicas     Reason = "TooFewReplicas"
)

// Spec is the part of an HPA's spec that a sync depends on, beside the metrics.
type Spec struct {
	// MinReplicas is at least 1. KEDA's HPAs have the ScaledObject's
	// minReplicaCount, or 1 where that is 0.
	MinReplicas, MaxReplicas int
	// Behavior is spec.behavior as it was written: nil, or incomplete, or complete.
	Behavior *autoscalingv2.HorizontalPodAutoscalerBehavior
}

// Scale is the scale subresource of the HPA's target.
type Scale struct {
	Spec   int // spec.replicas
	Status int // status.replicas: the pods that exist
}

// Result is what a sync does. Whether it grows the workload: Replicas > Scale.Spec.
type Result struct {
	// Replicas is spec.replicas after the sync.
	Replicas int
	// Proposed is what the metrics propose, before stabilization, policies and
	// bounds. It is spec.replicas where the metrics were not read, or failed.
	Proposed int
	// Reason is the last step that changed the number. A step that had no effect
	// is not named: with 100 replicas proposed, ScaleUpLimit where the policies
	// allow 8, but TooManyReplicas where maxReplicas is 6.
	Reason Reason

	// The reasons of the HPA's conditions; empty where the sync leaves a condition
	// as it was.
	ScalingActive, AbleToScale, ScalingLimited Reason
}

// Sync returns what a sync does now, and what the controller remembers after it
// if the new count was written. metrics has at least one element.
//
// The largest proposal counts. If a metric failed, the others still let the HPA
// grow, but not shrink: with 5 replicas, proposals of 7 and of a failed metric
// give 7, and those of 3 and of a failed metric leave 5.
//
// It mirrors [reconcileAutoscaler].
//
// [reconcileAutoscaler]: https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/controller/podautoscaler/horizontal.go#L824
func (s Spec) Sync(now time.Time, scale Scale, metrics []Metric, memory Memory) (Result, Memory) {
	m := memory.clone()
	if m.recommendations == nil {
		// The present count is the first recommendation, so that a restart of the
		// controller does not shrink a fleet within the scale-down window.
		m.recommendations = []recommendation{{scale.Spec, now}}
	}
	r := Result{Replicas: scale.Spec, Proposed: scale.Spec, AbleToScale: SucceededGetScale}
	switch {
	case scale.Spec == 0:
		r.Reason, r.ScalingActive = ScalingDisabled, ScalingDisabled
		return r, m
	case scale.Spec > s.MaxReplicas:
		r.Replicas, r.Reason = s.MaxReplicas, TooManyReplicas
	case scale.Spec < s.MinReplicas:
		r.Replicas, r.Reason = s.MinReplicas, TooFewReplicas
	default:
		proposed, tolerated, ok := s.propose(scale, metrics)
		if !ok {
			r.Reason, r.ScalingActive = FailedGetExternalMetric, FailedGetExternalMetric
			return r, m
		}
		r = s.normalize(now, scale.Spec, proposed, &m)
		if r.Reason == DesiredWithinRange && tolerated {
			r.Reason = WithinTolerance
		}
	}
	s.rescale(now, scale.Spec, &r, &m)
	return r, m
}

// rescale writes the result to the scale subresource.
func (s Spec) rescale(now time.Time, current int, r *Result, m *Memory) {
	if r.Replicas == current {
		return
	}
	r.AbleToScale = SucceededRescale
	if b := Defaulted(s.Behavior); b != nil {
		m.record(now, r.Replicas-current, b)
	}
}

// propose returns the largest proposal of the metrics; tolerated is that
// metric's. ok is false where the HPA holds.
//
// It mirrors [computeReplicasForMetrics].
//
// [computeReplicasForMetrics]: https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/controller/podautoscaler/horizontal.go#L378
func (s Spec) propose(scale Scale, metrics []Metric) (replicas int, tolerated, ok bool) {
	failed, tolerances := 0, TolerancesOf(s.Behavior)
	for _, m := range metrics {
		if m.Failed {
			failed++
			continue
		}
		if n, within := m.Replicas(scale.Status, tolerances); n > replicas {
			replicas, tolerated = n, within
		}
	}
	return replicas, tolerated, failed < len(metrics) && (failed == 0 || replicas >= scale.Spec)
}

// normalize applies stabilization, policies and bounds to a proposal, and
// records it.
//
// It mirrors [normalizeDesiredReplicasWithBehaviors], and without behavior
// [normalizeDesiredReplicas].
//
// [normalizeDesiredReplicasWithBehaviors]: https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/controller/podautoscaler/horizontal.go#L1144
// [normalizeDesiredReplicas]: https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/controller/podautoscaler/horizontal.go#L1109
func (s Spec) normalize(now time.Time, current, proposed int, m *Memory) Result {
	r := Result{Proposed: proposed, Reason: DesiredWithinRange, ScalingActive: ValidMetricFound, AbleToScale: ReadyForNewScale}
	b := Defaulted(s.Behavior)
	stable, stabilized := 0, ScaleDownStabilized
	if b == nil {
		stable = m.stabilizeDown(now, proposed)
	} else {
		stable = m.stabilize(now, current, proposed, b)
		if proposed >= current {
			stabilized = ScaleUpStabilized
		}
	}
	if stable != proposed {
		r.Reason, r.AbleToScale = stabilized, stabilized
	}
	if b == nil {
		r.Replicas, r.ScalingLimited = s.restrictPerSync(current, stable)
	} else {
		r.Replicas, r.ScalingLimited = s.restrict(now, current, stable, m, b)
	}
	if r.ScalingLimited != DesiredWithinRange {
		r.Reason = r.ScalingLimited
	}
	return r
}

// restrict applies the policies and the bounds. A count equal to current passes.
//
// It mirrors [convertDesiredReplicasWithBehaviorRate].
//
// [convertDesiredReplicasWithBehaviorRate]: https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/controller/podautoscaler/horizontal.go#L1317
func (s Spec) restrict(now time.Time, current, wanted int, m *Memory, b *autoscalingv2.HorizontalPodAutoscalerBehavior) (int, Reason) {
	switch {
	case wanted > current:
		limit, reason := s.MaxReplicas, TooManyReplicas
		if byPolicy := m.limit(now, up, current, b.ScaleUp); byPolicy < limit {
			limit, reason = byPolicy, ScaleUpLimit
		}
		if wanted > limit {
			return limit, reason
		}
	case wanted < current:
		limit, reason := s.MinReplicas, TooFewReplicas
		if byPolicy := m.limit(now, down, current, b.ScaleDown); byPolicy > limit {
			limit, reason = byPolicy, ScaleDownLimit
		}
		if wanted < limit {
			return limit, reason
		}
	}
	return wanted, DesiredWithinRange
}

// restrictPerSync applies the growth limit and the bounds of an HPA without
// behavior.
//
// It mirrors [convertDesiredReplicasWithRules].
//
// [convertDesiredReplicasWithRules]: https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/controller/podautoscaler/horizontal.go#L1371
func (s Spec) restrictPerSync(current, wanted int) (int, Reason) {
	limit, reason := s.MaxReplicas, TooManyReplicas
	if perSync := limitPerSync(current); perSync < limit {
		limit, reason = perSync, ScaleUpLimit
	}
	switch {
	case wanted < s.MinReplicas:
		return s.MinReplicas, TooFewReplicas
	case wanted > limit:
		return limit, reason
	}
	return wanted, DesiredWithinRange
}

// TimeToGrow returns the time from the first sync that proposes `to` replicas
// until spec.replicas is `to`, with a sync every [SyncPeriod] and no earlier
// change. ok is false where that takes more than a day. Tolerances have no
// effect on it.
//
// With the behavior's defaults 1 replica becomes 5, 10 and 20: 20 replicas take
// 30 s. Without a behavior it becomes 4, 8, 16 and 20, in 45 s.
func (s Spec) TimeToGrow(from, to int) (takes time.Duration, ok bool) {
	var start time.Time
	m := Memory{recommendations: []recommendation{{from, start}}}
	for ; takes <= 24*time.Hour; takes += SyncPeriod {
		if from < to {
			now := start.Add(takes)
			r := s.normalize(now, from, to, &m)
			s.rescale(now, from, &r, &m)
			from = r.Replicas
		}
		if from >= to {
			return takes, true
		}
	}
	return 0, false
}
