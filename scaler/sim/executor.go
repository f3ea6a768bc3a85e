package sim

import (
	"sync"
	"time"
)

// executor is what KEDA does between zero replicas and one: it wakes the fleet as
// soon as the trigger is active, and puts it to sleep once it has not been for the
// cooldown. Above that the HPA has its say.
type executor struct {
	world    *world
	fleet    int // of the world's
	min      int
	cooldown time.Duration // story time

	mu         sync.Mutex
	lastActive time.Duration // story time
	woken      bool
	waking     time.Duration // real time from the first arrival until it was woken
}

// active takes a word of the stream, or a poll's.
func (e *executor) active(active bool) {
	if !active && e.min > 0 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.world.look(func(fleets []*Fleet, elapsed time.Duration) {
		f := fleets[e.fleet]
		switch {
		case active:
			e.lastActive = elapsed
			if f.stats.Replicas > 0 {
				return
			}
			f.Scale(max(1, e.min))
			if !e.woken && f.stats.Arrived > 0 {
				e.woken = true
				e.waking = time.Duration(float64(f.now.Sub(f.first)) / e.world.speed)
			}
		case f.stats.Replicas > 0 && elapsed-e.lastActive >= e.cooldown:
			f.Scale(0)
		}
	})
}

func (e *executor) wake() (woken bool, after time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.woken, e.waking
}
