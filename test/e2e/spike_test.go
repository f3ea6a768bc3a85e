package e2e

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/test/e2e/inference"
)

// window is the guide's scale-down stabilization of 300 s, and its policies' 60 s
// a fifth of it.
var window = flag.Duration("window", 30*time.Second, "the scale-down stabilization window; the guide's is 5m")

// guide is the guide's ScaledObject for an ASR fleet, with a target of 5. Up: at once, by
// 100 % or 2 pods per 15 s. Down: after the window, by at most 50 % or 1 pod per fifth of it.
func guide(minimum, maximum int) string {
	return fmt.Sprintf(`
minReplicaCount: %d
maxReplicaCount: %d
pollingInterval: 5
advanced:
  horizontalPodAutoscalerConfig:
    behavior:
      scaleUp:
        tolerance: "0"
        stabilizationWindowSeconds: 0
        selectPolicy: Max
        policies:
          - {type: Percent, value: 100, periodSeconds: 15}
          - {type: Pods, value: 2, periodSeconds: 15}
      scaleDown:
        tolerance: "0"
        stabilizationWindowSeconds: %d
        selectPolicy: Min
        policies:
          - {type: Percent, value: 50, periodSeconds: %[4]d}
          - {type: Pods, value: 1, periodSeconds: %[4]d}
triggers:
  - type: external-push
    metadata:
      scalerAddress: $SCALER
      engine: lightning-asr
      target: "5"
`, minimum, maximum, int(window.Seconds()), int(window.Seconds()/5))
}

func TestSpike(t *testing.T) {
	t.Parallel()
	f := begin(t).fleet(workload{Replicas: 1, Startup: 3 * time.Second, Warmup: 5 * time.Second})
	f.scale(guide(1, 10))
	quiet := f.load(inference.Load{PerSecond: 2, Service: time.Second})
	f.stays(1, 10*time.Second)
	quiet()

	spike := time.Now()
	f.note("a spike of 22 requests a second")
	stop := f.load(inference.Load{PerSecond: 22, Service: 2 * time.Second, Jitter: true, Seed: 2})
	first := f.until("more than 1 replica", func(m moment) bool { return m.Replicas > 1 })
	full := f.atReplicas(10)
	f.figure("first new replica wanted %.1f s after the spike began, all 10 after %.1f s", first.Sub(spike).Seconds(), full.Sub(spike).Seconds())
	withinPolicy(f, f.since(spike), 15*time.Second, func(from int) int { return max(from, 2) })
	f.ready(10)
	stop()
	f.served()
}

func TestDecline(t *testing.T) {
	t.Parallel()
	f := begin(t).fleet(workload{Replicas: 1, Slots: 32})
	f.scale(guide(1, 10))
	f.burst(28) // they ask for 6 replicas
	f.ready(6)
	f.stays(6, 10*time.Second)
	fallen := time.Now()
	f.note("25 of 28 requests end")
	f.gateway.Finish(25)
	f.atReplicas(1)
	drops := f.since(fallen)
	require.NotEmpty(t, drops)
	require.GreaterOrEqual(t, drops[0].at.Sub(fallen), *window, "the first drop came before the window had passed")
	f.figure("the first drop came %.1f s after the load fell, the last one after %.1f s", drops[0].at.Sub(fallen).Seconds(), drops[len(drops)-1].at.Sub(fallen).Seconds())
	for _, c := range drops {
		require.Equal(t, c.from-1, c.to, "at most half or 1 pod, whichever is less")
	}
	withinPolicy(f, drops, *window/5, func(int) int { return 1 })
	require.Equal(t, 3, f.present().InFlight(), "the minimum was reached while the last requests ran")
	f.finish()
}

// Nights and weekends: down to the minimum, and back at once.
func TestOffHours(t *testing.T) {
	t.Parallel()
	f := begin(t).fleet(workload{Replicas: 4})
	f.scale(guide(1, 10))
	f.atReplicas(1)
	// Longer than the policies' period: what was taken away within it may come back
	// beyond the policy.
	f.stays(1, 18*time.Second)
	f.note("the morning: 20 requests at once")
	morning := time.Now()
	f.burst(20)
	back := f.until("more than 1 replica", func(m moment) bool { return m.Replicas > 1 })
	f.figure("the first replicas came back after %.1f s", back.Sub(morning).Seconds())
	f.atReplicas(4)
	withinPolicy(f, f.since(morning), 15*time.Second, func(from int) int { return max(from, 2) })
	f.finish()
}
