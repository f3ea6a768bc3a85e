package demo

import (
	"sync"
	"time"

	"github.com/inference-scaler/inference-scaler/scaler/sim"
)

// world is the fleets of a scenario. The servers of the replicas, the cluster and KEDA share it.
// Each access first advances the fleets to the current time, so that no scrape is outdated.
type world struct {
	mu     sync.Mutex
	nodes  *sim.Nodes
	fleets []*sim.Fleet // the main workload first
	speed  float64
	epoch  time.Time // the start, in simulated time
	began  time.Time // the start, in real time; zero before it
	seen   uint64    // changes of the fleets at the last access
	// changed has a value while the cluster has to report a change of pods or replicas.
	changed chan struct{}
}

func newWorld(nodes *sim.Nodes, fleets []*sim.Fleet, epoch time.Time, speed float64) *world {
	w := &world{nodes: nodes, fleets: fleets, epoch: epoch, speed: speed, changed: make(chan struct{}, 1)}
	w.seen = w.changes()
	return w
}

func (w *world) changes() (n uint64) {
	for _, f := range w.fleets {
		n += f.Changes()
	}
	return n
}

// start starts simulated time.
func (w *world) start(real time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.began = real
}

// withFleets calls f with the fleets at the current time, and with the simulated time since the
// start.
func (w *world) withFleets(f func(fleets []*sim.Fleet, elapsed time.Duration)) {
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
		default: // a change is already pending
		}
	}
}

// realTime converts simulated time to real time.
func (w *world) realTime(elapsed time.Duration) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.began.Add(time.Duration(float64(elapsed) / w.speed))
}
