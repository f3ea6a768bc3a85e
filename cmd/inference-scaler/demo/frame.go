package demo

import (
	"fmt"
	"time"
)

// Frame is the state of the demo at one instant.
type Frame struct {
	Elapsed   time.Duration // simulated time since the start
	Phase     string
	PerSecond float64 // arrivals, per second of simulated time

	Load, Active, Waiting     int // requests; Load is the sum of the other two
	Replicas, Ready, Draining int // as in [sim.Stats]

	Value, Target float64 // in the scaler's responses
	Desired       int     // replicas in the scaler's decision
	Rule          string  // of the scaler, the last one that changed the decision
	HPA           string  // result and reason of the last sync

	Others              []OtherFrame // the other workloads
	AllocatedGPUs, GPUs int
	Pending             int // replicas of all workloads without free GPUs
}

// OtherFrame is the state of another workload.
type OtherFrame struct {
	Name                     string
	Replicas, Ready, Desired int
	Rule                     string // as in Frame
}

// Explanation is the scaler's explanation of its last decision.
type Explanation struct {
	Replicas int
	Rule     string
	At       time.Time // real time of the decision; zero if unknown
}

// reaction measures the delay from the first rise of the arrival rate to the decision of the
// scaler and to that of the HPA.
type reaction struct {
	rises    bool          // the scenario has a rise
	rise     time.Duration // simulated time of the rise
	realRise time.Time     // real time of the rise

	baseline      int // the larger of the current and the desired replicas before the rise
	decided       bool
	decisionDelay time.Duration // real time
	scaled        bool
	scaleDelay    time.Duration // simulated time
}

// observeDecision records the current and the desired replicas at a real time, and the time of the
// decision. Only a decision above the baseline is a reaction: noise in the load changes the
// desired replicas all the time.
func (r *reaction) observeDecision(now time.Time, replicas, desired int, at time.Time) {
	switch {
	case !r.rises || r.decided:
	case now.Before(r.realRise):
		r.baseline = max(replicas, desired)
	case desired > r.baseline:
		if at.Before(r.realRise) || at.After(now) {
			at = now
		}
		r.decided, r.decisionDelay = true, at.Sub(r.realRise)
	}
}

// observeSync records the replicas before and after a sync of the HPA.
func (r *reaction) observeSync(elapsed time.Duration, before, after int) {
	if r.rises && !r.scaled && elapsed >= r.rise && after > before {
		r.scaled, r.scaleDelay = true, elapsed-r.rise
	}
}

// syncText describes one sync. metric is the number of replicas that the metric requires.
func syncText(before, after, metric int, reason string) string {
	if before == after {
		return fmt.Sprintf("keeps %d: %s (metric: %d)", before, reason, metric)
	}
	return fmt.Sprintf("%d → %d: %s (metric: %d)", before, after, reason, metric)
}
