package sim

import "time"

// request is one unit of work on its way through the fleet.
type request struct {
	arrived  time.Time // at the fleet
	received time.Time // by its replica
	service  time.Duration
}

// durationBounds are the upper bounds of the request duration's buckets, in seconds.
var durationBounds = [...]float64{0.5, 1, 2.5, 5, 10, 20, 40, 80}

// queue is what one replica has to do: at most slots requests in the batch on
// its GPU, and the others behind them in the order in which they came.
type queue struct {
	slots   int
	active  int
	waiting []request

	served   int
	duration float64 // seconds, summed over all served
	buckets  [len(durationBounds)]uint64
}

// inFlight is how many requests the replica has, running and waiting.
func (q *queue) inFlight() int { return q.active + len(q.waiting) }

// add takes a request, and reports whether a slot was free for it.
func (q *queue) add(r request) (started bool) {
	if q.active == q.slots {
		q.waiting = append(q.waiting, r)
		return false
	}
	q.active++
	return true
}

// finish ends one running request, and returns the one that takes its slot.
func (q *queue) finish(now time.Time, r request) (next request, ok bool) {
	took := now.Sub(r.received).Seconds()
	q.served++
	q.duration += took
	for i, bound := range durationBounds {
		if took <= bound {
			q.buckets[i]++
		}
	}
	if len(q.waiting) == 0 {
		q.active--
		return request{}, false
	}
	next, q.waiting = q.waiting[0], q.waiting[1:]
	return next, true
}
