package sim

import (
	"sync"
	"time"
)

// world is a fleet that many goroutines look at: the servers of its replicas,
// the cluster, KEDA. Whoever looks moves it to the present first, so that a
// scrape never shows the past.
type world struct {
	mu    sync.Mutex
	fleet *Fleet
	speed float64
	epoch time.Time // the story's beginning, in story time
	began time.Time // the same in real time; zero until it begins
	seen  uint64    // the fleet's changes at the last look
	// changed holds a value while the pods or the replicas have changed since
	// the cluster last said so.
	changed chan struct{}
}

func newWorld(fleet *Fleet, epoch time.Time, speed float64) *world {
	return &world{
		fleet: fleet, epoch: epoch, speed: speed, seen: fleet.Changes(),
		changed: make(chan struct{}, 1),
	}
}

// begin starts the story. Until then its time stands still.
func (w *world) begin(real time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.began = real
}

// look calls f with the fleet, advanced to the present, and with the time the
// story has been going on.
func (w *world) look(f func(fleet *Fleet, elapsed time.Duration)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var elapsed time.Duration
	if !w.began.IsZero() {
		elapsed = time.Duration(float64(time.Since(w.began)) * w.speed)
	}
	w.fleet.Advance(w.epoch.Add(elapsed))
	f(w.fleet, elapsed)
	if changes := w.fleet.Changes(); changes != w.seen {
		w.seen = changes
		select {
		case w.changed <- struct{}{}:
		default: // one is enough: it says "look again"
		}
	}
}

// realTime is when an instant of the story is, or was.
func (w *world) realTime(elapsed time.Duration) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.began.Add(time.Duration(float64(elapsed) / w.speed))
}
