package scaler

import (
	"testing"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	"github.com/stretchr/testify/require"
)

// Two triggers that differ only in what KEDA resolves, of a ScaledObject that is polled every 5 minutes.
func TestTriggersThatDifferInWhatKEDAResolves(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		w.network.add("10.0.9.8:80", "demand_queued_requests 7\n")
		w.network.add("10.0.9.9:80", "demand_queued_requests 0\n")
		w.cluster.endpoints = []cluster.Endpoint{{IP: "10.0.9.8", Port: 80}, {IP: "10.0.9.9", Port: 80}}
		w.cluster.declare(
			map[string]string{"engine": "lightning-asr", "upstreamFromEnv": "REALTIME"},
			map[string]string{"engine": "lightning-asr", "upstreamFromEnv": "BATCH"})
		w.has(0)
		w.pass(time.Second)
		one := map[string]string{"engine": "lightning-asr", "upstreamFromEnv": "http://10.0.9.8:80"}
		two := map[string]string{"engine": "lightning-asr", "upstreamFromEnv": "http://10.0.9.9:80"}
		woken := 0
		for range 12 {
			if w.active(one) {
				woken++
			}
			w.pass(10 * time.Millisecond)
			w.active(two)
			w.pass(5 * time.Minute)
		}
		require.NotZero(t, woken, "7 wait for an hour")
	})
}
