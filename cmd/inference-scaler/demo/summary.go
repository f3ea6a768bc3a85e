package demo

import (
	"fmt"
	"strings"
	"time"

	"github.com/inference-scaler/inference-scaler/scaler/sim"
)

// Summary is the result of a run.
type Summary struct {
	Story    Story
	Reached  time.Duration // story time; less than the story's if it was interrupted
	Complete bool

	// Woken: KEDA created the first replica, a real time of Waking after the first request.
	Woken  bool
	Waking time.Duration
	// Reacted: the scaler decided on more replicas, a real time of Reaction after the first
	// rise of the arrivals.
	Reacted  bool
	Reaction time.Duration
	// Scaled: the HPA scaled up, a story time of Scaling after the rise.
	Scaled  bool
	Scaling time.Duration

	Stats sim.Stats // the main fleet's, at the end
	// Others are those of the other workloads, in their order.
	Others []sim.Stats
	// Held and Waited are the largest numbers of GPUs that were held, and of replicas that
	// waited for one.
	Held, Waited int
}

func (p *play) summary() Summary {
	woken, waking := p.scalers[0].executor.wake()
	return Summary{
		Woken: woken, Waking: waking,
		Story: p.demo.story, Reached: p.reached, Complete: p.complete,
		Reacted: p.reaction.decided, Reaction: p.reaction.deciding,
		Scaled: p.reaction.acted, Scaling: p.reaction.acting,
		Stats: p.stats[0], Others: p.stats[1:], Held: p.held, Waited: p.waited,
	}
}

// String is the summary as text, one line per fact.
func (s Summary) String() string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-20s %s\n", name, fmt.Sprintf(format, args...))
	}
	if !s.Complete {
		line("cut short", "after %s of %s", clock(s.Reached), clock(s.Story.Duration()))
	}
	if s.Woken {
		line("wake-up", "%d ms after the first request, KEDA gave the fleet its first replica", s.Waking.Milliseconds())
	}
	if s.Reacted {
		line("decision", "%d ms after the arrivals rose, the scaler asked for more replicas (it scrapes every %v)", s.Reaction.Milliseconds(), s.Story.RealInterval())
	} else {
		line("decision", "none: the scaler did not ask for more after the arrivals rose")
	}
	if s.Scaled {
		line("scale-up", "%.1f s of story time after they rose: the HPA syncs every %v", s.Scaling.Seconds(), s.Story.Sync)
	}
	st := s.Stats
	line("served", "%d of %d requests; %d running and %d waiting at the end; %d lost",
		st.Served, st.Arrived, st.Active, st.Waiting, st.Arrived-st.Served-st.Load())
	line("longest wait", "%.1f s before a request's service began", st.LongestWait.Seconds())
	line("replicas", "%d at first, %d at the peak, %d at the end", s.Story.Replicas, st.Peak, st.Replicas)
	for i, other := range s.Others {
		w := s.Story.Others[i]
		text := fmt.Sprintf("%d replicas at first, %d at the peak, %d at the end", w.Replicas, other.Peak, other.Replicas)
		if w.Follow == "" {
			text += fmt.Sprintf("; %d of %d requests served, %d lost", other.Served, other.Arrived, other.Arrived-other.Served-other.Load())
		} else {
			text += fmt.Sprintf("; it follows %s, one for %s", w.Follow, number(w.Ratio))
		}
		line(w.Shape.Name, "%s", text)
	}
	total := 0
	for _, gpus := range s.Story.Nodes {
		total += gpus
	}
	line("GPUs", "%d of %d held at the peak; at most %d replicas waited for one", s.Held, total, s.Waited)
	line("GPU-seconds", "%.0f; %.0f with the peak's replicas all the time",
		st.GPUSeconds, float64(st.Peak*s.Story.Shape.GPUs)*s.Reached.Seconds())
	return b.String()
}

// clock is story time in minutes and seconds.
func clock(d time.Duration) string {
	seconds := int(d.Seconds())
	return fmt.Sprintf("%02d:%02d", seconds/60, seconds%60)
}
