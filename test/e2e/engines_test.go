package e2e

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/test/e2e/inference"
)

// The third guide's fleets: StatefulSets by their waiting requests, target 5.
func TestWaitingRequests(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"vllm", "sglang"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			f := begin(t).fleet(workload{Kind: "StatefulSet", Engine: engine, Slots: 9, Startup: 4 * time.Second, Replicas: 1})
			f.scale(quick{min: 1, max: 10, window: 30 * time.Second, triggers: push("engine: "+engine, `target: "5"`)}.String())
			f.until("the scaler answers", func(m moment) bool { return m.Wanted >= 0 })

			settle := f.never("more than 3 replicas", func(m moment) bool { return m.Replicas > 3 })
			asked := time.Now()
			f.burst(20)
			stats := f.gateway.Stats()
			require.Equal(t, []int{11, 9}, []int{stats.Waiting, stats.Running})
			three := f.atReplicas(3)
			f.figure("11 waiting and 9 running on 1 pod: exactly 3 replicas, after %.1f s", three.Sub(asked).Seconds())
			f.ready(3)
			f.finish()

			// 21 requests in flight on 27 slots: no queue, and KV caches that would
			// overfill two pods. It lasts far longer than hold and window, which bridge
			// its begin: what keeps the third replica then is the brake.
			saw := f.never("other than 3 replicas", func(m moment) bool { return m.Replicas != 3 })
			f.note("a steady load of 21 requests in flight")
			stop := f.load(inference.Load{PerSecond: 4, Service: 5250 * time.Millisecond})
			f.pause(90 * time.Second)
			f.until("the queue is empty", func(m moment) bool { return m.Waiting == 0 && m.Running >= 18 })
			saw()
			stop()
			settle()
			f.atReplicas(1)
			f.served()
		})
	}
}

// Streaming sessions wait in a queue that all pods share. Each pod exports the queue,
// and it counts once.
func TestStreamingSessions(t *testing.T) {
	t.Parallel()
	f := begin(t).fleet(workload{Replicas: 2, StreamSlots: 5, Startup: 3 * time.Second})
	f.gateway.Submit(inference.Burst(22, true)...)
	stats := f.gateway.Stats()
	require.Equal(t, []int{12, 10}, []int{stats.StreamQueue, stats.Running})
	f.scale(quick{min: 2, max: 10, triggers: push("engine: lightning-asr", "hold: 5s")}.String())
	f.atReplicas(5)
	// When the new pods take the sessions that waited, the others may still export
	// them until they are read again: 22 and 12 are 7 replicas, for a moment.
	f.never("more than 7 replicas", func(m moment) bool { return m.Replicas > 7 })
	f.until("no session waits", func(m moment) bool { return m.StreamQueue == 0 })
	f.pause(12 * time.Second) // hold and window
	f.until("every session counts once", func(m moment) bool { return m.Value == 22 })
	f.ready(5)
	f.stays(5, 5*time.Second)
	f.finish()
	f.atReplicas(2)
}

// The second guide's latency objective, over the engine's own histogram.
func TestLatencyObjective(t *testing.T) {
	t.Parallel()
	f := begin(t).fleet(workload{Engine: "vllm", Slots: 8, Startup: 3 * time.Second, Replicas: 1})
	f.scale(quick{min: 1, max: 6, window: 30 * time.Second, triggers: push(
		"engine: vllm",
		`target: "1000"`, // the queue alone asks for nothing
		"latencyQuery: histogram_quantile(0.95, sum by (le) (rate(vllm:time_to_first_token_seconds_bucket[10s])))",
		"latencyTarget: 500ms",
	)}.String())
	f.until("the scaler answers", func(m moment) bool { return m.Wanted >= 0 })
	begun := time.Now()
	// Two and a quarter pods' worth of work.
	stop := f.load(inference.Load{PerSecond: 9, Service: 2 * time.Second})
	more := f.until("more than 1 replica", func(m moment) bool { return m.Replicas > 1 })
	f.figure("a missed objective: more replicas after %.1f s", more.Sub(begun).Seconds())
	enough := f.until("nothing waits, on 3 replicas or more", func(m moment) bool { return m.Ready >= 3 && m.Waiting == 0 })
	f.figure("the queue is gone after %.1f s", enough.Sub(begun).Seconds())
	f.until("the latency asks for 3 at most", func(m moment) bool { return m.Wanted > 0 && m.Wanted <= 3 })
	stop()
	f.atReplicas(1)
	f.served()
}
