package explain

import (
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

// Explanation is a decision with all that led to it. Numbers that are not known
// are null, never 0.
type Explanation struct {
	Namespace    string `json:"namespace"`
	ScaledObject string `json:"scaledObject"`
	// Trigger tells the triggers of one ScaledObject apart: the name of its
	// metric, and a hash of its metadata.
	Trigger string `json:"trigger"`
	Engine  string `json:"engine,omitempty"`

	// Error says why there is no decision at all.
	Error string `json:"error,omitempty"`

	Workload *Workload `json:"workload,omitempty"`

	DecidedAt  time.Time `json:"decidedAt,omitzero"`
	AgeSeconds float64   `json:"ageSeconds"` // of the decision
	Value      *float64  `json:"value"`
	Target     float64   `json:"target"`
	Replicas   *int      `json:"replicas"` // value over target, rounded up
	// DemandReplicas are those asked for before capacity was looked at.
	DemandReplicas *int      `json:"demandReplicas"`
	Capacity       *Capacity `json:"capacity,omitempty"`
	Demand         *float64  `json:"demand"` // the load as measured
	InFlight       *float64  `json:"inFlight"`
	Active         bool      `json:"active"`
	ActiveWhy      string    `json:"activeWhy,omitempty"`
	DataSeconds    *float64  `json:"dataAgeSeconds"` // of the oldest pod's last answer

	Queries []Query `json:"queries,omitempty"`
	Steps   []Step  `json:"steps,omitempty"`
	Pods    []Pod   `json:"pods,omitempty"`
	// Upstream is what shows demand before it reaches a pod.
	Upstream []Source `json:"upstream,omitempty"`
	Faults   []string `json:"faults,omitempty"`
}

// Capacity is what the cluster has room for.
type Capacity struct {
	// Limited: there is room for fewer replicas than are asked for, and fewer are decided on.
	Limited  bool   `json:"limited"`
	Replicas *int   `json:"replicas"`           // that there is room for
	Why      string `json:"why"`                // what the number is made of, or why there is none
	Observed string `json:"observed,omitempty"` // why it is no limit
}

// Workload is the scale target as the cluster shows it.
type Workload struct {
	Kind        string `json:"kind,omitempty"`
	Name        string `json:"name"`
	Replicas    int    `json:"replicas"`
	MinReplicas int    `json:"minReplicas"`
	MaxReplicas int    `json:"maxReplicas"` // 0 where the cluster was not asked
	Paused      bool   `json:"paused,omitempty"`
	// Behavior is that of the HPA, as the ScaledObject has it; absent where it has none.
	Behavior *autoscalingv2.HorizontalPodAutoscalerBehavior `json:"behavior,omitempty"`
}

// Query is one of the trigger's queries, and what it yielded.
type Query struct {
	Signal   string    `json:"signal"` // load, inFlight, saturation, latency, upstream or arrivals
	PromQL   string    `json:"promql"`
	Elements []Element `json:"elements"`
	Error    string    `json:"error,omitempty"`
	Warnings []string  `json:"warnings,omitempty"`
}

// Element is one series of a query's result.
type Element struct {
	Labels string `json:"labels"`
	Value  string `json:"value"` // a string, for JSON knows neither NaN nor Inf
}

// Step is what one rule made of the number.
type Step struct {
	Rule   string `json:"rule"`
	Before Amount `json:"before"`
	After  Amount `json:"after"`
	Why    string `json:"why"`
}

// Amount is a load, and the replicas that it asks for.
type Amount struct {
	Value    float64 `json:"value"`
	Replicas int     `json:"replicas"`
}

// Pod is one pod, or endpoint, as its readings show it.
type Pod struct {
	Name       string   `json:"name"`
	State      string   `json:"state"`
	Ready      bool     `json:"ready"`
	AgeSeconds *float64 `json:"ageSeconds"` // of its last answer
	Load       *float64 `json:"load"`
	InFlight   *float64 `json:"inFlight"`
	Saturation *float64 `json:"saturation"`
	Fault      string   `json:"fault,omitempty"`
}

// Source is one instance of an upstream, as its readings show it.
type Source struct {
	Name       string   `json:"name"`
	State      string   `json:"state"`
	AgeSeconds *float64 `json:"ageSeconds"` // of its last answer
	Demand     *float64 `json:"demand"`     // null where the query sums over instances
	Fault      string   `json:"fault,omitempty"`
}
