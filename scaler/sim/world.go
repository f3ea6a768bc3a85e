package sim

import (
	"sync"
	"time"
)

// world is the fleets of a story, which many goroutines look at: the servers of their
// replicas, the cluster, KEDA. Whoever looks moves them to the present first, so that a
// scrape never shows the past.
type world struct {
	mu     sync.Mutex
	nodes  *nodes
	fleets []*Fleet // the story's own workload first
	speed  float64
	epoch  time.Time // the story's beginning, in story time
	began  time.Time // the same in real time; zero until it begins
	seen   uint64    // the fleets' changes at the last look
	// changed holds a value while the pods or the replicas have changed since
	// the cluster last said so.
	changed chan struct{}
}

func newWorld(on *nodes, fleets []*Fleet, epoch time.Time, speed float64) *world {
	w := &world{nodes: on, fleets: fleets, epoch: epoch, speed: speed, changed: make(chan struct{}, 1)}
	w.seen = w.changes()
	return w
}

func (w *world) changes() (n uint64) {
	for _, f := range w.fleets {
		n += f.Changes()
	}
	return n
}

// begin starts the story. Until then its time stands still.
func (w *world) begin(real time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.began = real
}

// look calls f with the fleets, advanced to the present, and with the time the story
// has been going on.
func (w *world) look(f func(fleets []*Fleet, elapsed time.Duration)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var elapsed time.Duration
	if !w.began.IsZero() {
		elapsed = time.Duration(float64(time.Since(w.began)) * w.speed)
	}
	for _, fleet := range w.fleets {
		fleet.Advance(w.epoch.Add(elapsed))
	}
	f(w.fleets, elapsed)
	for _, fleet := range w.fleets { // what one has given back another may wait for
		fleet.place()
	}
	if changes := w.changes(); changes != w.seen {
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
