package decision

import "time"

// HandOver follows work from an upstream's queue to the pods. Both are read at
// moments of their own, so that a request on its way is seen twice by a plain sum
// (in the queue as it was, and on the pod as it is), or not at all.
//
// What a queue has lost is in transit until every pod has been read since; what
// pods have gained came out of what is in transit, and then out of the queue as it
// was read last, until that is read again. So the sum does not rise or fall for a
// request that moves; where others come and go meanwhile, it errs by less than what
// moves between two readings. The zero HandOver has seen nothing.
type HandOver struct {
	Known        bool
	Queued, Pods float64 // as read last
	// Transit has left the queue, and no pod has been seen to have it. Taken is of
	// the queue as it was read, and has been seen on pods.
	Transit, Taken     float64
	TransitAt, TakenAt time.Time
}

// moments are when the sources of one side were read: the first and the last of them.
type moments struct{ oldest, newest time.Time }

// after returns the hand-over once the queue and the pods have been read.
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
		h.Transit = 0 // whoever had it would have said so
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
		h.Taken = 0 // what it was taken from has been read since
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

// upstream is the part of the demand that no pod has been seen to have.
func (h HandOver) upstream() float64 { return h.Queued - h.Taken + h.Transit }
