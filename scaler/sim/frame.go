package sim

import (
	"fmt"
	"time"
)

// Frame is the demonstration at one moment.
type Frame struct {
	Sim       time.Duration // story time since the beginning
	Phase     string
	PerSecond float64 // arrivals in this phase, per second of story time

	Load, Active, Waiting     int // requests; Load is the sum of the others
	Replicas, Ready, Draining int // asked for, taking requests, only finishing

	Value, Target float64 // what the scaler answers
	Wanted        int     // replicas that the scaler decided on
	Step          string  // the step that decided, in the scaler's own words
	HPA           string  // what the last sync did, and why

	Others   []OtherFrame // the other workloads
	GPUs, Of int          // held, and there are
	Pending  int          // replicas, of all workloads, that no node has GPUs for
}

// OtherFrame is another workload of the story at the same moment.
type OtherFrame struct {
	Name                    string
	Replicas, Ready, Wanted int
	Step                    string // as in Frame
}

// Explanation is the scaler's own account of its last decision.
type Explanation struct {
	Replicas int
	Step     string
	At       time.Time // real time of the decision; zero where it is not known
}

// reaction measures how long the scaler and the HPA take to answer the first
// rise of the arrivals.
type reaction struct {
	rises bool
	story time.Duration // of the rise
	real  time.Time     // the same

	baseline         int // replicas there were, or were wanted already, before the rise
	decided, acted   bool
	deciding, acting time.Duration
}

// see takes, at a real time, the replicas there are and those the scaler wants,
// and when it decided that. Only to ask for more than there are is an answer:
// under a noisy load, what is wanted rises and falls all the time.
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

// scaled takes what the HPA did at a time of the story.
func (r *reaction) scaled(elapsed time.Duration, before, after int) {
	if r.rises && !r.acted && elapsed >= r.story && after > before {
		r.acted, r.acting = true, elapsed-r.story
	}
}

// syncText says what one sync did.
func syncText(before, after, asked int, reason string) string {
	if before == after {
		return fmt.Sprintf("stays at %d: %s (%d asked)", before, reason, asked)
	}
	return fmt.Sprintf("%d → %d: %s (%d asked)", before, after, reason, asked)
}
