package sourcetest

import (
	"context"
	"errors"
	"sync"
	"testing/synctest"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource"
)

// Readings implements the targets of a writer that sends requests. It stores the response of
// each target, and delays requests for Begin.
type Readings struct {
	// Timeout of an exchange.
	Timeout time.Duration
	// Statuses returns the Status of the writer's group.
	Statuses func() []metricsource.Status

	mu      sync.Mutex
	answers map[string]Answer
	held    map[string]*held
}

// held is a request that gets no response until it is released.
type held struct {
	once     sync.Once
	received chan struct{}
	released chan struct{}
}

// errNotRead means that the writer does not read the target any more.
var errNotRead = errors.New("the target is not read")

// Begin implements Source.
func (r *Readings) Begin(target string) (finish func(Answer) error) {
	h := &held{received: make(chan struct{}), released: make(chan struct{})}
	r.mu.Lock()
	if r.held == nil {
		r.held, r.answers = map[string]*held{}, map[string]Answer{}
	}
	r.held[target] = h
	r.mu.Unlock()
	<-h.received
	before := r.status(target)
	return func(a Answer) error {
		r.mu.Lock()
		r.answers[target] = a
		delete(r.held, target)
		r.mu.Unlock()
		close(h.released)
		// The writer records the exchange after Timeout at the latest.
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

// Answers waits until the targets can respond, and returns their series. It omits a target
// before its first response. ok is false if one of the responses is Broken.
func (r *Readings) Answers(ctx context.Context, targets ...string) (all map[string][]Series, ok bool) {
	for _, target := range targets {
		r.mu.Lock()
		h := r.held[target]
		r.mu.Unlock()
		if h == nil {
			continue
		}
		h.once.Do(func() { close(h.received) })
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
		time.Sleep(2 * r.Timeout) // virtual; not cancelled, so that a late response is sent
	}
	return all, ok
}
