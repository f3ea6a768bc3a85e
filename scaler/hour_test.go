package scaler

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	"github.com/stretchr/testify/require"
)

// The scaler's memory does not grow in an hour of a fleet's life. Pods come, go and fail,
// streams are opened and closed, and demand is reported.
func TestNothingGrowsInAnHour(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		metadata := map[string]string{"engine": "lightning-asr", "interval": "5s", "hold": "10s", "latencyQuery": "max(max_over_time(asr_active_requests[1m]))", "latencyTarget": "100"}
		w.cluster.declare(metadata)
		api := w.reporter()
		minute := func(at int) {
			const pods = 8
			w.cluster.update(func(wl *cluster.Workload) {
				wl.Replicas, wl.Pods = pods, nil
				for i := range pods { // one of them is new each minute
					n := i
					if i == at%pods {
						n = pods + at
					}
					wl.Pods = append(wl.Pods, pod(fmt.Sprintf("pod-%d", n), fmt.Sprintf("10.0.%d.%d", n/200, n%200+1), true))
				}
			})
			for _, p := range w.cluster.pods() {
				if at%3 == 0 && p.Name == "pod-1" {
					continue // refuses connections
				}
				w.network.add(p.IP+":9090", asr(at%7))
			}
			ctx, cancel := context.WithCancel(context.Background())
			stream := w.streamIn(ctx, metadata)
			for range 6 {
				api.report(at % 5)
				w.pass(10 * time.Second)
				w.value(metadata)
			}
			cancel()
			w.pass(time.Second)
			require.True(t, stream.done)
			w.network.clear()
		}
		held := func() (goroutines int, heap uint64) {
			var m runtime.MemStats
			for range 3 {
				runtime.GC()
			}
			runtime.ReadMemStats(&m)
			return runtime.NumGoroutine(), m.HeapAlloc
		}
		for at := range 10 {
			minute(at)
		}
		goroutines, heap := held()
		for at := range 60 {
			minute(at + 10)
		}
		after, heapAfter := held()
		require.Equal(t, goroutines, after)
		require.Less(t, heapAfter, heap+heap/5+1<<20)
	})
}
