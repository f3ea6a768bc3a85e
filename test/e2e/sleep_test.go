package e2e

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/test/e2e/inference"
)

// N → 0 when the work ends, and not before.
func TestFallsAsleep(t *testing.T) {
	t.Parallel()
	f := begin(t).fleet(workload{Replicas: 1, Slots: 8, Startup: 2 * time.Second})
	f.burst(24) // an idle fleet would be put to sleep at KEDA's first poll
	f.never("asleep with work in flight", func(m moment) bool { return m.Replicas == 0 && m.InFlight() > 0 })
	f.scale(quick{max: 10, triggers: push("engine: lightning-asr", "hold: 5s")}.String())
	f.ready(5)
	f.finish()
	ended := time.Now()
	f.figure("asleep %.1f s after the last request", f.atReplicas(0).Sub(ended).Seconds())
	f.stays(0, 5*time.Second)
}

// A busy LLM fleet without a queue: nothing waits, and it must not sleep.
func TestNeverSleepsOnWorkInFlight(t *testing.T) {
	t.Parallel()
	f := begin(t).fleet(workload{Engine: "vllm", Replicas: 1, Slots: 64})
	f.burst(60)
	f.scale(quick{max: 10, triggers: push("engine: vllm", "hold: 5s")}.String())
	f.never("asleep with work in flight", func(m moment) bool { return m.Replicas == 0 && m.InFlight() > 0 })
	stats := f.gateway.Stats()
	require.Equal(t, []int{60, 0}, []int{stats.Running, stats.Waiting})
	f.stays(1, 25*time.Second) // five times the cooldown
	f.finish()
	f.atReplicas(0)
}

// A request that reaches a pod which is already on its way out, at zero replicas,
// is no reason to start another one.
func TestLateRequestAtZero(t *testing.T) {
	t.Parallel()
	f := begin(t).fleet(workload{Replicas: 2, Drain: 60 * time.Second})
	f.scale(quick{max: 10, triggers: push("engine: lightning-asr", "hold: 1s")}.String())
	f.atReplicas(0)
	f.wait("a draining pod has taken a late request", func() error {
		if !f.gateway.SubmitToEnding(&inference.Request{Service: 15 * time.Second}) {
			return errors.New("no pod is draining")
		}
		return nil
	})
	f.note("a late request")
	f.stays(0, 15*time.Second)
	f.until("the pods are gone", func(m moment) bool { return m.Servers == 0 })
	f.stays(0, 5*time.Second)
	f.served()
}

// Model loading takes 20 s: the replicas that are asked for meanwhile are those
// that the load needs, and no more for being slow to come.
func TestNoCascade(t *testing.T) {
	t.Parallel()
	f := begin(t).fleet(workload{Replicas: 1, Slots: 32, Startup: 20 * time.Second})
	f.scale(quick{min: 1, max: 20, triggers: push("engine: lightning-asr")}.String())
	f.never("more than 6 replicas", func(m moment) bool { return m.Replicas > 6 })
	begun := time.Now()
	f.burst(28)
	asked := f.atReplicas(6)
	ready := f.ready(6)
	f.figure("6 replicas asked for after %.1f s, ready after %.1f s, never more", asked.Sub(begun).Seconds(), ready.Sub(begun).Seconds())
	f.stays(6, 10*time.Second)
	f.finish()
}

// A missed latency objective multiplies the pods that it was measured on: the new
// ones, while they load, are no reason to ask for more. The first token takes 50 ms
// here whatever the load: 2.5 times the objective.
func TestNoCascadeByLatency(t *testing.T) {
	t.Parallel()
	f := begin(t).fleet(workload{Engine: "vllm", Replicas: 1, Slots: 16, Startup: 30 * time.Second})
	f.scale(quick{min: 1, max: 20, triggers: push(
		"engine: vllm",
		"latencyQuery: histogram_quantile(0.5, sum by (le) (rate(vllm:time_to_first_token_seconds_bucket[10s])))",
		"latencyTarget: 20ms",
	)}.String())
	f.never("more than 3 replicas before these are ready", func(m moment) bool { return m.Replicas > 3 && m.Ready < 3 })
	stop := f.load(inference.Load{PerSecond: 4, Service: 2 * time.Second})
	f.atReplicas(3)
	f.ready(3)
	stop()
	f.served()
}
