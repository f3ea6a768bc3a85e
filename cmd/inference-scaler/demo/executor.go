package demo

import (
	"sync"
	"time"

	"github.com/inference-scaler/inference-scaler/scaler/sim"
)

// executor is KEDA's scaling between zero replicas and one: to one as soon as the trigger is
// active, and to zero after the cooldown. The HPA does the rest.
type executor struct {
	world    *world
	fleet    int // index
	min      int
	cooldown time.Duration // story time

	mu         sync.Mutex
	lastActive time.Duration // story time
	woken      bool
	waking     time.Duration // real time from the first arrival to the first replica
}

// active takes a message of the stream, or the result of a poll.
func (e *executor) active(active bool) {
	if !active && e.min > 0 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.world.look(func(fleets []*sim.Fleet, elapsed time.Duration) {
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
				e.waking = time.Duration(float64(e.world.epoch.Add(elapsed).Sub(f.FirstArrival())) / e.world.speed)
			}
		case stats.Replicas > 0 && elapsed-e.lastActive >= e.cooldown:
			f.Scale(0)
		}
	})
}

func (e *executor) wake() (woken bool, after time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.woken, e.waking
}
