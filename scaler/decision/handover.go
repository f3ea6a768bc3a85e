package decision

import "time"

// HandOver tracks work on its way from an upstream queue to the pods. Queue and pods are
// read at different times, so a plain sum may count a request twice (in the old queue and
// on a new pod) or not at all.
//
// Work that left the queue is in transit until every pod has been read again. Work that
// pods gained is subtracted from the work in transit, then from the last known queue until
// the queue is read again. So a request that moves does not change the sum. The error is
// less than the work that moves between two readings.
//
// Example: a queue of 10 is read, then a pod with 8. The sum is 10: 2 queued and 8 on the
// pod. The zero HandOver has read nothing.
type HandOver struct {
	Known        bool
	Queued, Pods float64 // as of the last reading
	// Transit is the work that left the queue and was not seen on a pod. Taken is the part
	// of Queued that was seen on pods since the queue was read.
	Transit, Taken     float64
	TransitAt, TakenAt time.Time
}

// moments are the times at which the sources of one side were read.
type moments struct{ oldest, newest time.Time }

// after returns the state after a reading of the queue and the pods.
func (h HandOver) after(queued, pods float64, upstream, fleet moments) HandOver {
	if !h.Known {
		return HandOver{Known: true, Queued: queued, Pods: pods}
	}
	if upstream.newest.Before(fleet.newest) {
		h.readQueue(queued, upstream)
		h.readPods(pods, fleet)
	} else {
		h.readPods(pods, fleet)
		h.readQueue(queued, upstream)
	}
	if fleet.oldest.IsZero() || fleet.oldest.After(h.TransitAt) {
		h.Transit = 0 // every pod has been read since, and reports the work that it got
	}
	return h
}

func (h *HandOver) readQueue(queued float64, at moments) {
	if lost := h.Queued - queued; lost > 0 {
		seen := min(h.Taken, lost)
		h.Taken -= seen
		if lost > seen {
			h.Transit += lost - seen
			h.TransitAt = at.newest
		}
	}
	h.Queued = queued
	if at.oldest.After(h.TakenAt) {
		h.Taken = 0 // the queue has been read since
	}
	h.Taken = min(h.Taken, queued)
}

func (h *HandOver) readPods(pods float64, at moments) {
	if gained := pods - h.Pods; gained > 0 {
		arrived := min(h.Transit, gained)
		h.Transit -= arrived
		if taken := min(gained-arrived, h.Queued-h.Taken); taken > 0 {
			h.Taken += taken
			h.TakenAt = at.newest
		}
	}
	h.Pods = pods
}

// upstream returns the work that is not on pods.
func (h HandOver) upstream() float64 { return h.Queued - h.Taken + h.Transit }
