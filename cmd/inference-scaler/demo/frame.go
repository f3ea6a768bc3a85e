package demo

import (
	"fmt"
	"time"
)

// Frame is the state of the demo at one instant.
type Frame struct {
	Sim       time.Duration // story time
	Phase     string
	PerSecond float64 // arrivals, per second of story time

	Load, Active, Waiting     int // requests; Load is the sum of the other two
	Replicas, Ready, Draining int // as in [sim.Stats]

	Value, Target float64 // what the scaler answers
	Wanted        int     // replicas by the scaler's decision
	Step          string  // the scaler's reason
	HPA           string  // the result and reason of the last sync

	Others   []OtherFrame // the other workloads
	GPUs, Of int          // held, and in all
	Pending  int          // replicas of all workloads without free GPUs
}

// OtherFrame is the state of another workload.
type OtherFrame struct {
	Name                    string
	Replicas, Ready, Wanted int
	Step                    string // as in Frame
}

// Explanation is the scaler's explanation of its last decision.
type Explanation struct {
	Replicas int
	Step     string
	At       time.Time // real time of the decision; zero if unknown
}

// reaction measures the time from the first rise of the arrivals to the scaler's decision and
// to the HPA's.
type reaction struct {
	rises bool
	story time.Duration // time of the rise
	real  time.Time     // the same in real time

	baseline         int // the larger of the present and the wanted replicas before the rise
	decided, acted   bool
	deciding, acting time.Duration
}

// see takes the present and the wanted replicas at a real time, and the time of the decision.
// Only a decision above the baseline is a reaction: under a noisy load, the wanted replicas
// rise and fall all the time.
func (r *reaction) see(now time.Time, replicas, wanted int, at time.Time) {
	switch {
	case !r.rises || r.decided:
	case now.Before(r.real):
		r.baseline = max(replicas, wanted)
	case wanted > r.baseline:
		if at.Before(r.real) || at.After(now) {
			at = now
		}
		r.decided, r.deciding = true, at.Sub(r.real)
	}
}

// scaled takes a change by the HPA.
func (r *reaction) scaled(elapsed time.Duration, before, after int) {
	if r.rises && !r.acted && elapsed >= r.story && after > before {
		r.acted, r.acting = true, elapsed-r.story
	}
}

// syncText describes one sync.
func syncText(before, after, asked int, reason string) string {
	if before == after {
		return fmt.Sprintf("stays at %d: %s (%d asked)", before, reason, asked)
	}
	return fmt.Sprintf("%d → %d: %s (%d asked)", before, after, reason, asked)
}
