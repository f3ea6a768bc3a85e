package explain

import (
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

// Explanation is a decision with its evidence. Unknown numbers are null, and never 0.
type Explanation struct {
	Namespace    string `json:"namespace"`
	ScaledObject string `json:"scaledObject"`
	// Trigger distinguishes the triggers of a ScaledObject. It is the metric name with a hash
	// of the metadata.
	Trigger string `json:"trigger"`
	Engine  string `json:"engine,omitempty"`

	// Error says why no decision can be made now. Without an earlier decision, only the fields
	// above are set.
	Error string `json:"error,omitempty"`

	Workload *Workload `json:"workload,omitempty"`

	DecidedAt  time.Time `json:"decidedAt,omitzero"`
	AgeSeconds float64   `json:"ageSeconds"` // of the decision
	Value      *float64  `json:"value"`
	Target     float64   `json:"target"`
	Replicas   *int      `json:"replicas"` // value over target, rounded up
	// DemandReplicas is the number of replicas before the capacity rule.
	DemandReplicas *int      `json:"demandReplicas"`
	Capacity       *Capacity `json:"capacity,omitempty"`
	Demand         *float64  `json:"demand"` // the load as measured
	InFlight       *float64  `json:"inFlight"`
	Active         bool      `json:"active"`
	ActiveWhy      string    `json:"activeWhy,omitempty"`
	DataSeconds    *float64  `json:"dataAgeSeconds"` // age of the oldest samples

	Queries []Query `json:"queries,omitempty"`
	Steps   []Step  `json:"steps,omitempty"`
	Pods    []Pod   `json:"pods,omitempty"`
	// Upstream lists the instances of the upstream.
	Upstream []Source `json:"upstream,omitempty"`
	Faults   []string `json:"faults,omitempty"`
}

// Capacity is how many replicas the cluster can hold.
type Capacity struct {
	// Limited: the capacity reduced the replicas.
	Limited  bool   `json:"limited"`
	Replicas *int   `json:"replicas"`           // null if unknown
	Why      string `json:"why"`                // explains the number, or why it is unknown
	Observed string `json:"observed,omitempty"` // why it is not a limit
}

// Workload is the scale target.
type Workload struct {
	Kind        string `json:"kind,omitempty"`
	Name        string `json:"name"`
	Replicas    int    `json:"replicas"`
	MinReplicas int    `json:"minReplicas"`
	MaxReplicas int    `json:"maxReplicas"` // 0 without Kubernetes
	Paused      bool   `json:"paused,omitempty"`
	// Behavior is the HPA behavior in the ScaledObject; absent if it has none.
	Behavior *autoscalingv2.HorizontalPodAutoscalerBehavior `json:"behavior,omitempty"`
}

// Query is a query of the trigger, with its result.
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
	Value  string `json:"value"` // a string, because JSON has no NaN and no Inf
}

// Step is the effect of one rule.
type Step struct {
	Rule   string `json:"rule"`
	Before Amount `json:"before"`
	After  Amount `json:"after"`
	Why    string `json:"why"`
}

// Amount is a load, and the replicas that it needs.
type Amount struct {
	Value    float64 `json:"value"`
	Replicas int     `json:"replicas"`
}

// Pod is a pod or an endpoint.
type Pod struct {
	Name       string   `json:"name"`
	State      string   `json:"state"`
	Ready      bool     `json:"ready"`
	AgeSeconds *float64 `json:"ageSeconds"` // of its last samples
	Load       *float64 `json:"load"`
	InFlight   *float64 `json:"inFlight"`
	Saturation *float64 `json:"saturation"`
	Fault      string   `json:"fault,omitempty"`
}

// Source is an instance of an upstream.
type Source struct {
	Name       string   `json:"name"`
	State      string   `json:"state"`
	AgeSeconds *float64 `json:"ageSeconds"` // of its last samples
	Demand     *float64 `json:"demand"`     // null if the query sums over instances
	Fault      string   `json:"fault,omitempty"`
}
