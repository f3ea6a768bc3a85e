package demo

import (
	"fmt"
	"strings"
	"time"

	"github.com/inference-scaler/inference-scaler/scaler/sim"
)

// Summary is the result of a run.
type Summary struct {
	Scenario Scenario
	Reached  time.Duration // simulated time; less than the length of the scenario if interrupted
	Complete bool

	// Woken reports whether KEDA created the first replica. WakeDelay is the real time from the
	// first request until then.
	Woken     bool
	WakeDelay time.Duration
	// Decided reports whether the scaler requested more replicas after the first rise of the
	// arrival rate. DecisionDelay is the real time from the rise until then.
	Decided       bool
	DecisionDelay time.Duration
	// Scaled reports whether the HPA scaled up after the rise. ScaleDelay is the simulated time
	// from the rise until then.
	Scaled     bool
	ScaleDelay time.Duration

	Stats  sim.Stats   // of the main fleet at the end
	Others []sim.Stats // of the other workloads, in their order
	// PeakGPUs is the largest number of allocated GPUs. PeakPending is the largest number of
	// replicas without free GPUs.
	PeakGPUs, PeakPending int
}

func (p *runner) summary() Summary {
	woken, wakeDelay := p.scalers[0].executor.wake()
	return Summary{
		Woken: woken, WakeDelay: wakeDelay,
		Scenario: p.demo.scenario, Reached: p.reached, Complete: p.complete,
		Decided: p.reaction.decided, DecisionDelay: p.reaction.decisionDelay,
		Scaled: p.reaction.scaled, ScaleDelay: p.reaction.scaleDelay,
		Stats: p.stats[0], Others: p.stats[1:], PeakGPUs: p.peakGPUs, PeakPending: p.peakPending,
	}
}

// String returns the summary as text, one line per fact.
func (s Summary) String() string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-20s %s\n", name, fmt.Sprintf(format, args...))
	}
	if !s.Complete {
		line("interrupted", "after %s of %s", clock(s.Reached), clock(s.Scenario.Duration()))
	}
	if s.Woken {
		line("wake-up", "KEDA created the first replica %d ms after the first request", s.WakeDelay.Milliseconds())
	}
	if s.Decided {
		line("decision", "the scaler requested more replicas %d ms after the rise of the arrival rate (it scrapes every %v)", s.DecisionDelay.Milliseconds(), s.Scenario.RealInterval())
	} else {
		line("decision", "the scaler did not request more replicas after the rise of the arrival rate")
	}
	if s.Scaled {
		line("scale-up", "the HPA added replicas %.1f s of simulated time after the rise (it syncs every %v)", s.ScaleDelay.Seconds(), s.Scenario.Sync)
	}
	st := s.Stats
	line("served", "%d of %d requests; %d running and %d waiting at the end; %d lost",
		st.Served, st.Arrived, st.Active, st.Waiting, st.Arrived-st.Served-st.Load())
	line("longest wait", "%.1f s from the arrival of a request to the start of its service", st.LongestWait.Seconds())
	line("replicas", "%d at the start, %d at the peak, %d at the end", s.Scenario.Replicas, st.Peak, st.Replicas)
	for i, other := range s.Others {
		w := s.Scenario.Others[i]
		text := fmt.Sprintf("replicas: %d at the start, %d at the peak, %d at the end", w.Replicas, other.Peak, other.Replicas)
		if w.Follow == "" {
			text += fmt.Sprintf("; %d of %d requests served, %d lost", other.Served, other.Arrived, other.Arrived-other.Served-other.Load())
		} else {
			text += fmt.Sprintf("; follows %s with a ratio of %s", w.Follow, number(w.Ratio))
		}
		line(w.Shape.Name, "%s", text)
	}
	total := 0
	for _, gpus := range s.Scenario.Nodes {
		total += gpus
	}
	line("GPUs", "%d of %d allocated at the peak; pending replicas: at most %d", s.PeakGPUs, total, s.PeakPending)
	line("GPU-seconds", "%.0f; %.0f with the peak number of replicas throughout",
		st.GPUSeconds, float64(st.Peak*s.Scenario.Shape.GPUs)*s.Reached.Seconds())
	return b.String()
}

// clock formats simulated time as minutes and seconds.
func clock(d time.Duration) string {
	seconds := int(d.Seconds())
	return fmt.Sprintf("%02d:%02d", seconds/60, seconds%60)
}
