// Package evidence gathers what is known of a workload into the input of a decision.
// It is pure: what the sources show, and the time, are arguments.
//
// A number takes this way: a source writes a sample into a Window; Gather evaluates the
// trigger's query over it; the elements become a decision.Reading, and the statuses of
// the source become the states of the pods that the reading is about.
package evidence

import (
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource"
	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	"github.com/inference-scaler/inference-scaler/scaler/decision"
)

// Observation is what the sources of a trigger show at one moment.
type Observation struct {
	Workload *cluster.Workload // nil without Kubernetes
	// Opened is when the sources began to fill their windows.
	Opened time.Time
	// Pods are the samples of the workload's pods, or of the trigger's endpoints.
	Pods Samples
	// Departed are pods, by UID, that ended and are not read any more.
	Departed map[string]bool
	// Queries are the trigger's own queries that a Prometheus answers, by name.
	Queries  map[string]metricsource.QueryStatus
	Upstream Upstream
	Leader   decision.Leader
	Capacity decision.Capacity
}

// Samples are a window, with the statuses of the targets that it is about.
type Samples struct {
	Window   *metricsource.Window // nil: the trigger has no load of its own
	Statuses []metricsource.Status
}

// Upstream is what shows demand before it reaches a pod: read, reported, or both.
type Upstream struct {
	Samples
	Read    bool // the trigger names something to read
	Err     error
	Reports []metricsource.Status
}

// Signal is one of the trigger's queries, with its result.
type Signal struct {
	Name   string
	PromQL string
	Result metricsource.Result
	Err    string
}
