package decision

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// request holds the times at which a request was queued, handed to a pod, and done. Zero
// means not yet.
type request struct{ queued, handed, done time.Duration }

// line is a queue with pods, and all requests so far.
type line struct {
	now      time.Duration
	requests []*request
}

// step lets some requests arrive, or be handed to a pod, or end.
func (l *line) step(r *rand.Rand, arrivals bool) {
	l.now += time.Duration(1+r.IntN(300)) * time.Millisecond
	waiting, running := l.waiting(), l.running()
	n := 1 + r.IntN(6)
	switch event := r.IntN(3); {
	case event == 0 && arrivals:
		for range n {
			l.requests = append(l.requests, &request{queued: l.now})
		}
	case event == 1:
		for _, q := range waiting[:min(n, len(waiting))] {
			q.handed = l.now
		}
	case event == 2:
		for _, q := range running[:min(n, len(running))] {
			q.done = l.now
		}
	}
}

func (l *line) waiting() []*request {
	return l.where(func(q *request) bool { return q.handed == 0 })
}

func (l *line) running() []*request {
	return l.where(func(q *request) bool { return q.handed > 0 && q.done == 0 })
}

func (l *line) where(is func(*request) bool) []*request {
	return slices.DeleteFunc(slices.Clone(l.requests), func(q *request) bool { return !is(q) })
}

// alive counts the requests that are not done.
func (l *line) alive() float64 {
	return float64(len(l.where(func(q *request) bool { return q.done == 0 })))
}

// reader reads the queue and the pods of a line at different times.
type reader struct {
	line            *line
	handOver        HandOver
	queued, pods    float64
	queueAt, podsAt []time.Duration
	seen            float64 // the queue before the last reading of the pods, and its growth since
}

func (r *reader) read(queue bool) {
	if queue {
		before := r.queued
		r.queued, r.queueAt = float64(len(r.line.waiting())), append(r.queueAt, r.line.now)
		r.seen += max(0, r.queued-before)
	} else {
		r.seen = r.queued
		r.pods, r.podsAt = float64(len(r.line.running())), append(r.podsAt, r.line.now)
	}
	moment := func(all []time.Duration) moments {
		at := time.Unix(0, 0).Add(all[len(all)-1])
		return moments{at, at}
	}
	r.handOver = r.handOver.after(r.queued, r.pods, moment(r.queueAt), moment(r.podsAt))
}

func (r *reader) demand() float64 { return r.pods + r.handOver.upstream() }

// TestHandOverCountsEveryRequestOnce moves requests from a queue to pods, and reads both at
// random times.
func TestHandOverCountsEveryRequestOnce(t *testing.T) {
	for seed := range uint64(1000) {
		r := rand.New(rand.NewPCG(seed, 5))
		l := &line{now: time.Second}
		w := &reader{line: l, queueAt: []time.Duration{l.now}, podsAt: []time.Duration{l.now}}
		where := func() string {
			return fmt.Sprintf("seed %d: queue %v, pods %v, %+v", seed, w.queued, w.pods, w.handOver)
		}
		w.read(true)

		// No request counts both in the queue and on a pod. So the demand is at most the
		// pods' work, the queue when the pods were read, and its growth since.
		for range 60 {
			l.step(r, true)
			w.read(r.IntN(2) == 0)
			require.LessOrEqual(t, w.demand(), w.pods+w.seen, where())
			require.GreaterOrEqual(t, w.handOver.upstream(), 0.0, where())
		}
		// Without further changes the demand equals the number of open requests.
		for range 2 {
			for _, queue := range []bool{true, false} {
				l.now += time.Millisecond
				w.read(queue)
			}
		}
		require.Equal(t, l.alive(), w.demand(), where())
		// Without arrivals the demand never rises, and is at least the number of open
		// requests.
		for range 60 {
			before := w.demand()
			l.step(r, false)
			w.read(r.IntN(2) == 0)
			require.GreaterOrEqual(t, w.demand(), l.alive(), where())
			require.LessOrEqual(t, w.demand(), before, where())
		}
	}
}
