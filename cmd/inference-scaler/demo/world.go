package demo

import (
	"sync"
	"time"

	"github.com/inference-scaler/inference-scaler/scaler/sim"
)

// world is the fleets of a story, shared by the servers of the replicas, the cluster and KEDA.
// Each access advances them to the present first, so that a scrape never shows the past.
type world struct {
	mu     sync.Mutex
	nodes  *sim.Nodes
	fleets []*sim.Fleet // the story's own workload first
	speed  float64
	epoch  time.Time // the beginning, in story time
	began  time.Time // the beginning, in real time; zero before it
	seen   uint64    // the fleets' changes at the last access
	// changed holds a value while the cluster has not reported a change of pods or replicas.
	changed chan struct{}
}

func newWorld(on *sim.Nodes, fleets []*sim.Fleet, epoch time.Time, speed float64) *world {
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

// begin starts story time.
func (w *world) begin(real time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.began = real
}

// look calls f with the fleets at the present instant, and with the story time since the
// beginning.
func (w *world) look(f func(fleets []*sim.Fleet, elapsed time.Duration)) {
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
	for _, fleet := range w.fleets { // another fleet may have released GPUs
		fleet.Place()
	}
	if changes := w.changes(); changes != w.seen {
		w.seen = changes
		select {
		case w.changed <- struct{}{}:
		default: // a value is there already
		}
	}
}

// realTime converts story time.
func (w *world) realTime(elapsed time.Duration) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.began.Add(time.Duration(float64(elapsed) / w.speed))
}
