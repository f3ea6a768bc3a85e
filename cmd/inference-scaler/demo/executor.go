package demo

import (
	"sync"
	"time"

	"github.com/inference-scaler/inference-scaler/scaler/sim"
)

// executor models KEDA's scaling between zero and one replica: to one as soon as the trigger is
// active, and to zero after the cooldown. The HPA scales above one.
type executor struct {
	world    *world
	fleet    int // index
	min      int
	cooldown time.Duration // simulated time

	mu         sync.Mutex
	lastActive time.Duration // simulated time
	woken      bool
	wakeDelay  time.Duration // real time from the first arrival to the first replica
}

// onActive handles a message of the stream or the result of a poll.
func (e *executor) onActive(active bool) {
	if !active && e.min > 0 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.world.withFleets(func(fleets []*sim.Fleet, elapsed time.Duration) {
		f := fleets[e.fleet]
		stats := f.Stats()
		switch {
		case active:
			e.lastActive = elapsed
			if stats.Replicas > 0 {
				return
			}
			f.Scale(max(1, e.min))
			if !e.woken && stats.Arrived > 0 {
				e.woken = true
				e.wakeDelay = time.Duration(float64(e.world.epoch.Add(elapsed).Sub(f.FirstArrival())) / e.world.speed)
			}
		case stats.Replicas > 0 && elapsed-e.lastActive >= e.cooldown:
			f.Scale(0)
		}
	})
}

// wake reports whether KEDA has created the first replica, and after what delay.
func (e *executor) wake() (woken bool, delay time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.woken, e.wakeDelay
}
