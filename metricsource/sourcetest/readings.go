package sourcetest

import (
	"context"
	"errors"
	"sync"
	"testing/synctest"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource"
)

// Readings is the targets' side of a writer that reads: it holds what each target
// answers, and holds requests back for Begin.
type Readings struct {
	// Timeout of a reading.
	Timeout time.Duration
	// Statuses is the Status of the writer's group.
	Statuses func() []metricsource.Status

	mu      sync.Mutex
	answers map[string]Answer
	held    map[string]*held
}

// held is a request that is under way until it is released.
type held struct {
	once     sync.Once
	asked    chan struct{}
	released chan struct{}
}

// errNotRead: the writer is done with the target.
var errNotRead = errors.New("the target is not read")

// Begin implements Source.
func (r *Readings) Begin(target string) (finish func(Answer) error) {
	h := &held{asked: make(chan struct{}), released: make(chan struct{})}
	r.mu.Lock()
	if r.held == nil {
		r.held, r.answers = map[string]*held{}, map[string]Answer{}
	}
	r.held[target] = h
	r.mu.Unlock()
	<-h.asked
	before := r.status(target)
	return func(a Answer) error {
		r.mu.Lock()
		r.answers[target] = a
		delete(r.held, target)
		r.mu.Unlock()
		close(h.released)
		// The writer notes the reading at its time limit at the latest.
		for limit := time.Now().Add(2 * r.Timeout); time.Now().Before(limit); time.Sleep(time.Millisecond) { // virtual
			synctest.Wait()
			if st := r.status(target); st.Tried.After(before.Tried) {
				return st.Err
			}
		}
		return errNotRead
	}
}

func (r *Readings) status(target string) metricsource.Status {
	for _, st := range r.Statuses() {
		if st.Target == target {
			return st
		}
	}
	return metricsource.Status{}
}

// Answers returns what a server answers a request about these targets, once it may: nothing
// of a target before its first answer. ok is false where one of them is Broken.
func (r *Readings) Answers(ctx context.Context, targets ...string) (all map[string][]Series, ok bool) {
	for _, target := range targets {
		r.mu.Lock()
		h := r.held[target]
		r.mu.Unlock()
		if h == nil {
			continue
		}
		h.once.Do(func() { close(h.asked) })
		select {
		case <-h.released:
		case <-ctx.Done():
		}
	}
	all, ok, late := map[string][]Series{}, true, false
	r.mu.Lock()
	for _, target := range targets {
		if a, answered := r.answers[target]; answered {
			all[target] = a.Series
			ok, late = ok && !a.Broken, late || a.Late
		}
	}
	r.mu.Unlock()
	if late {
		time.Sleep(2 * r.Timeout) // virtual; it answers even if the client is gone
	}
	return all, ok
}
