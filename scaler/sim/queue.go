package sim

import "time"

// request is one request in the fleet.
type request struct {
	arrived  time.Time // at the fleet
	received time.Time // by its replica
	service  time.Duration
}

// durationBounds are the upper bounds of the histogram of request durations, in seconds.
var durationBounds = [...]float64{0.5, 1, 2.5, 5, 10, 20, 40, 80}

// Queue is the state of one replica's queue, as in its metrics.
type Queue struct {
	Slots, Active, Waiting, Served int
	// Seconds is the sum of the durations of served requests.
	Seconds float64
	// Buckets are cumulative: served requests by the upper bound of their duration.
	Buckets map[float64]uint64
}

// queue is the requests of one replica. Up to slots requests run as a batch. The others wait in
// the order of arrival.
type queue struct {
	slots   int
	active  int
	waiting []request

	served   int
	duration float64 // sum over the served requests, in seconds
	buckets  [len(durationBounds)]uint64
}

// inFlight is the number of running and waiting requests.
func (q *queue) inFlight() int { return q.active + len(q.waiting) }

// add reports whether a slot was free, so that the request has started.
func (q *queue) add(r request) (started bool) {
	if q.active == q.slots {
		q.waiting = append(q.waiting, r)
		return false
	}
	q.active++
	return true
}

// finish ends a running request, and returns the request that gets its slot.
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

func (q *queue) snapshot() Queue {
	s := Queue{Slots: q.slots, Active: q.active, Waiting: len(q.waiting), Served: q.served, Seconds: q.duration, Buckets: map[float64]uint64{}}
	for i, bound := range durationBounds {
		s.Buckets[bound] = q.buckets[i]
	}
	return s
}
