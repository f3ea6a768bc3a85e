package keda

import (
	"context"
	"io"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kedacore/keda/v2/pkg/scalers"
	"github.com/stretchr/testify/require"
)

// On SIGTERM both streams end with a clean EOF, not with a broken connection:
// only EOF resets KEDA's back-off.
func TestTerminationIsEOF(t *testing.T) {
	t.Parallel()
	scaler := startScaler(t, anyPort)
	metadata := trigger{"engine": "vllm"}.at(scaler.grpc, startFleet(t, vllm(1, 0)))
	client := direct(t, scaler)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	active, err := client.StreamIsActive(ctx, ref(t, metadata))
	require.NoError(t, err)
	first, err := active.Recv()
	require.NoError(t, err)
	require.True(t, first.Result)
	specs, err := client.StreamMetricSpec(ctx, ref(t, metadata))
	require.NoError(t, err)
	_, err = specs.Recv()
	require.NoError(t, err)

	require.Zero(t, scaler.stop(t, syscall.SIGTERM))
	for err = nil; err == nil; _, err = active.Recv() {
	}
	require.ErrorIs(t, err, io.EOF)
	_, err = specs.Recv()
	require.ErrorIs(t, err, io.EOF)
}

// A restart is never read as an idle fleet. Each kill doubles KEDA's wait for
// the stream (2, 4, 8 s) while its polls already see the new process. A
// graceful stop, after all those kills, brings it back in 2 s instead of 16.
func TestRestarts(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	scaler := startScaler(t, address)
	servers := startFleet(t, vllm(4, 3), vllm(0, 3), vllm(7, 3))
	k := newPushScaler(t, config(t, trigger{"engine": "vllm"}.at(address, servers)))
	metric := spec(t, k).Metric.Name
	settles(t, k, metric, "11", true)
	opened := time.Now()
	pushed := follow(t, k)
	pushed.arrives(t, opened, patience)
	watched := watch(t, k, metric)

	for range 3 {
		require.NotZero(t, scaler.stop(t, syscall.SIGKILL))
		died := time.Now()
		scaler = startScaler(t, address)
		settles(t, k, metric, "11", true)
		t.Logf("after a kill: value polled after %s", time.Since(died))
		t.Logf("after a kill: stream resumed after %s", pushed.arrives(t, died, patience))
	}

	require.Zero(t, scaler.stop(t, syscall.SIGTERM))
	ended := time.Now()
	startScaler(t, address)
	settles(t, k, metric, "11", true)
	t.Logf("after a graceful stop: value polled after %s", time.Since(ended))
	t.Logf("after a graceful stop: stream resumed after %s", pushed.arrives(t, ended, 10*time.Second))

	answers, wrong := watched()
	require.Empty(t, wrong, "of %d answers", answers)
	require.Positive(t, answers)
}

// watch polls as fast as the scaler answers, errors aside: KEDA and the HPA hold
// on an error. The function it returns ends that, and gives the number of
// answers and those that would have scaled the fleet down.
func watch(t *testing.T, s scalers.Scaler, metric string) func() (answers int, wrong []string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var count int
	var bad []string
	var done sync.WaitGroup
	done.Go(func() {
		ticker := time.NewTicker(tick)
		defer ticker.Stop()
		for ctx.Err() == nil {
			<-ticker.C
			got, ok := read(ctx, s, metric)
			if !ok {
				continue
			}
			count++
			if got.value.Sign() <= 0 || !got.active {
				bad = append(bad, got.String())
			}
		}
	})
	stop := func() {
		cancel()
		done.Wait()
	}
	t.Cleanup(stop)
	return func() (int, []string) {
		stop()
		return count, bad
	}
}
