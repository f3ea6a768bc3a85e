package schedule

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestQueueRunsDueItems(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New[string]()
		begun := time.Now()
		after := func(d time.Duration) time.Time { return begun.Add(d) }
		var mu sync.Mutex
		ran := map[string]time.Duration{}
		ctx, cancel := context.WithCancel(t.Context())
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			q.Run(ctx, func(item string) {
				mu.Lock()
				defer mu.Unlock()
				ran[item] = time.Since(begun)
			})
		}()
		q.At("late", after(3*time.Second))
		q.At("moved", after(time.Hour))
		q.At("moved", after(2*time.Second))
		q.By("sooner", after(time.Second))
		q.By("sooner", after(5*time.Second))
		q.By("hastened", after(time.Hour))
		q.By("hastened", after(4*time.Second))
		q.At("removed", after(time.Second))
		q.Remove("removed")
		q.At("pushed", after(time.Hour))
		q.Hasten("pushed", after(5*time.Second))
		q.Hasten("pushed", after(6*time.Second))
		q.Hasten("never queued", after(time.Second))
		time.Sleep(time.Minute) // virtual
		synctest.Wait()
		require.Equal(t, map[string]time.Duration{
			"sooner": time.Second, "moved": 2 * time.Second, "late": 3 * time.Second, "hastened": 4 * time.Second, "pushed": 5 * time.Second,
		}, ran)
		cancel()
		<-stopped
	})
}

func TestRunWaitsForRunningItems(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New[int]()
		ctx, cancel := context.WithCancel(t.Context())
		ended := false
		q.At(1, time.Now())
		go func() { time.Sleep(time.Millisecond); cancel() }()
		q.Run(ctx, func(int) { time.Sleep(time.Second); ended = true })
		require.True(t, ended)
	})
}

func TestItemNeverRunsConcurrentlyWithItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New[int]()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var mu sync.Mutex
		running, runs := 0, 0
		q.At(1, time.Now())
		go func() {
			for range 50 {
				time.Sleep(10 * time.Millisecond) // virtual
				q.By(1, time.Now())
			}
		}()
		q.Run(ctx, func(int) {
			mu.Lock()
			running, runs = running+1, runs+1
			if running > 1 {
				t.Error("two concurrent runs")
			}
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			running--
			mu.Unlock()
		})
		require.Equal(t, 2, runs, "due times during a run cause one more run")
	})
}
