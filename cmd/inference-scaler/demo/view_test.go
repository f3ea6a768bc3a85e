package demo

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/scaler/sim"
)

func TestLog(t *testing.T) {
	var b bytes.Buffer
	l := NewLog(&b, 30*time.Second)
	f := Frame{
		Phase: "quiet", Load: 11, Active: 9, Waiting: 2, Replicas: 2, Ready: 2, Desired: 3, Value: 11, Target: 5,
		HPA: "keeps 2: ScaleUpLimit (metric: 3)",
	}
	show := func(sim time.Duration, change func()) (written string) {
		b.Reset()
		f.Elapsed = sim
		change()
		l.Show(f)
		return b.String()
	}
	none := func() {}
	require.Equal(t, "00:00  quiet    load  11 (9 running, 2 waiting)  desired  3 (11/5)  replicas  2, 2 ready"+
		"  HPA keeps 2: ScaleUpLimit (metric: 3)\n", show(0, none))
	require.Empty(t, show(time.Second, none), "no change")
	require.Empty(t, show(2*time.Second, func() { f.Desired = 4 }), "too soon after the last line")
	require.NotEmpty(t, show(3*time.Second, func() { f.Replicas = 4 }))
	require.NotEmpty(t, show(4*time.Second, func() { f.Ready = 3 }))
	require.NotEmpty(t, show(14*time.Second, func() { f.Desired = 5 }))
	require.Empty(t, show(43*time.Second, func() { f.Load = 12 }))
	require.Contains(t, show(44*time.Second, func() { f.Draining = 1; f.Rule = "hold: 24 of 3 s ago" }),
		"replicas  4, 3 ready, 1 draining  HPA keeps 2: ScaleUpLimit (metric: 3)  rule hold: 24 of 3 s ago\n")
	f.Others, f.AllocatedGPUs, f.GPUs = []OtherFrame{{Name: "llm", Replicas: 2, Ready: 1, Desired: 3}}, 7, 8
	require.Contains(t, show(45*time.Second, none), "  llm 2, 1 ready, 3 desired  GPUs 7 of 8\n", "a change of another workload")
	require.Contains(t, show(46*time.Second, func() { f.Others = []OtherFrame{{Name: "llm", Replicas: 2, Ready: 2, Desired: 3}} }), "llm 2, 2 ready")
	require.Empty(t, show(47*time.Second, func() { f.AllocatedGPUs = 6 }))
}

func TestLive(t *testing.T) {
	s := DefaultScenario()
	s.Phases = []sim.Phase{phase("", 40*time.Second, 1)}
	var b bytes.Buffer
	l := NewLive(&b, s, 47, false) // 40 columns, one a second
	for second := range 40 {
		b.Reset()
		l.Show(Frame{
			Elapsed: time.Duration(second) * time.Second, Phase: "burst", PerSecond: 11, Load: 2 * second, Active: 12, Waiting: 2*second - 12,
			Replicas: 6, Ready: min(6, second/5), Desired: 9, Value: 44.5, Target: 5,
			Rule: "a long\nexplanation " + strings.Repeat("x", 100), HPA: "2 → 6: ScaleUpLimit (metric: 9)",
		})
		require.Equal(t, second > 0, strings.HasPrefix(b.String(), "\x1b[18A\r"), "over the previous frame")
		require.Equal(t, 18, strings.Count(b.String(), "\n"))
	}
	text := strings.ReplaceAll(strings.TrimPrefix(b.String(), "\x1b[18A\r"), "\x1b[K", "")
	require.NotContains(t, text, "\x1b", "no colours")
	for line := range strings.Lines(text) {
		require.LessOrEqual(t, utf8.RuneCountInString(strings.TrimSuffix(line, "\n")), 46)
	}
	require.Equal(t, `00:39 / 00:40  ×15  burst: 11 requests/s

  78 ┤                                ▁▂▃▄▅▆▇█
     │                        ▁▂▃▄▅▆▇█████████
     │                ▁▁▂▃▅▆▇█████████████████
     │        ▁▁▂▃▄▅▆▇████████████████████████
   0 ┤ ▁▂▃▄▅▆▇████████████████████████████████

  12 ┤                                        
     │········································
     │░░░░░░░░░░░░░░░░░░░░▃▃▃▃▃▅▅▅▅▅██████████
   0 ┤░░░░░▃▃▃▃▃▅▅▅▅▅█████████████████████████

load      78 requests: 12 running, 66 waiting
desired   9 replicas: value 44.5, target 5
rule      a long explanation xxxxxxxxxxxxxxxx…
HPA       2 → 6: ScaleUpLimit (metric: 9)
replicas  6: 6 ready
`, text)

	b.Reset()
	l = NewLive(&b, s, 10, true)
	l.Show(Frame{Elapsed: 20 * time.Second, Load: 4, Replicas: 3, Ready: 1, Draining: 1, Desired: 5})
	require.Contains(t, b.String(), "\x1b[36m█\x1b[0m")
	require.Contains(t, b.String(), "replicas  3: 1 ready, 2 not ready, 1 dr…")
	require.Contains(t, b.String(), "      load\x1b[K\n")
}

func TestReaction(t *testing.T) {
	newReaction := func() *reaction { return &reaction{rises: true, rise: 20 * time.Second, realRise: at(2)} }
	r := newReaction()
	r.observeDecision(at(1), 1, 2, time.Time{})
	r.observeDecision(at(2.1), 1, 2, time.Time{})
	r.observeDecision(at(2.2), 1, 3, at(2.15))
	r.observeDecision(at(2.3), 1, 9, at(2.3))
	require.True(t, r.decided)
	require.Equal(t, 150*time.Millisecond, r.decisionDelay, "by the scaler's time of the decision")
	r = newReaction()
	r.observeDecision(at(2.2), 0, 1, time.Time{})
	require.Equal(t, 200*time.Millisecond, r.decisionDelay, "by the time of the frame, without a time of the decision")

	r.observeSync(15*time.Second, 1, 2)
	require.False(t, r.scaled)
	r.observeSync(30*time.Second, 2, 2)
	require.False(t, r.scaled)
	r.observeSync(45*time.Second, 2, 4)
	r.observeSync(60*time.Second, 4, 8)
	require.Equal(t, 25*time.Second, r.scaleDelay)

	var none reaction
	none.observeDecision(at(5), 1, 4, at(5))
	none.observeSync(time.Minute, 1, 2)
	require.False(t, none.decided || none.scaled)
	_, rises := Scenario{Workload: Workload{Phases: []sim.Phase{phase("", time.Second, 2), phase("", time.Second, 1)}}}.rise()
	require.False(t, rises)
}

func TestSummary(t *testing.T) {
	s := Summary{
		Scenario: DefaultScenario(), Reached: 10 * time.Minute, Complete: true,
		Decided: true, DecisionDelay: 143 * time.Millisecond, Scaled: true, ScaleDelay: 5100 * time.Millisecond,
		Stats:  sim.Stats{Arrived: 2204, Served: 2200, Active: 4, Replicas: 6, Peak: 10, LongestWait: 4321 * time.Millisecond, GPUSeconds: 4983.3},
		Others: []sim.Stats{{Arrived: 40, Served: 38, Active: 1, Peak: 2, Replicas: 1}, {Peak: 5, Replicas: 1}}, PeakGPUs: 8, PeakPending: 1,
	}
	require.Equal(t, `decision             the scaler requested more replicas 143 ms after the rise of the arrival rate (it scrapes every 100ms)
scale-up             the HPA added replicas 5.1 s of simulated time after the rise (it syncs every 15s)
served               2200 of 2204 requests; 4 running and 0 waiting at the end; 0 lost
longest wait         4.3 s from the arrival of a request to the start of its service
replicas             0 at the start, 10 at the peak, 6 at the end
lightning-asr-large  replicas: 1 at the start, 2 at the peak, 1 at the end; 38 of 40 requests served, 1 lost
api-server           replicas: 1 at the start, 5 at the peak, 1 at the end; follows lightning-asr with a ratio of 2
GPUs                 8 of 8 allocated at the peak; pending replicas: at most 1
GPU-seconds          4983; 6000 with the peak number of replicas throughout
`, s.String())
}
