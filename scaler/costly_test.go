package scaler

import (
	"fmt"
	"testing"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	"github.com/stretchr/testify/require"
)

// A slow evaluation is not repeated all the time. Its cause makes no difference: readings
// that come while it runs, the end of a hold, or reports to a fleet at zero.
func TestCostlyEvaluationsTakeAShareOfTheTime(t *testing.T) {
	for _, tc := range []struct {
		took     time.Duration
		replicas int
		hold     string
	}{{2 * time.Second, 1, "0s"}, {2 * time.Second, 1, "20s"}, {12 * time.Second, 1, "0s"}, {2 * time.Second, 0, "0s"}} {
		t.Run(fmt.Sprintf("%v at %d replicas, hold %s", tc.took, tc.replicas, tc.hold), func(t *testing.T) {
			inBubble(t, true, func(t *testing.T, w *world) {
				c := &w.cluster.leaderCalls // once in each evaluation of a follower
				a := w.network.add("10.0.0.1:9090", asr(50))
				w.network.add("10.0.9.9:80", "demand_queued_requests 0\n")
				w.cluster.endpoints = []cluster.Endpoint{{IP: "10.0.9.9", Port: 80}}
				w.cluster.updateOf("api", "api", func(wl *cluster.Workload) { wl.Replicas = 1 })
				w.has(0)
				if tc.replicas > 0 {
					w.has(1, pod("a", "10.0.0.1", true))
				}
				w.cluster.declare(map[string]string{"engine": "lightning-asr", "hold": tc.hold, "follow": "api", "upstream": "http://10.0.9.9:80"})
				w.pass(5 * time.Second)
				c.took.Store(int64(tc.took))
				w.pass(time.Minute)
				before := c.asked.Load()
				for i := range 600 {
					a.set(asr(50 - i%40))
					w.pass(time.Second)
				}
				busy := time.Duration(c.asked.Load()-before) * tc.took
				require.Positive(t, busy)
				require.Less(t, busy, 600*time.Second/4, "a fifth is what busyShare says")
				c.took.Store(0)
				w.pass(2 * time.Minute)
			})
		})
	}
}

// A ScaledObject is deleted while its trigger is evaluated: changes of others do not wait.
func TestDeletedWhileEvaluated(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		w.cluster.updateOf("api", "api", func(wl *cluster.Workload) { wl.Replicas = 1 })
		w.cluster.declare(map[string]string{"engine": "lightning-asr", "follow": "api"})
		w.pass(5 * time.Second)
		w.cluster.leaderCalls.took.Store(int64(3 * time.Second))
		w.cluster.changed("asr", "fleet")
		time.Sleep(200 * time.Millisecond) // virtual: the evaluation is under way
		begun := time.Now()
		w.cluster.delete()
		w.cluster.changed("asr", "another")
		require.Less(t, time.Since(begun), time.Second)
		w.cluster.leaderCalls.took.Store(0)
		w.pass(5 * time.Second)
		require.Zero(t, w.open())
	})
}
