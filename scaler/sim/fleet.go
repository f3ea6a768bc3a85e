package sim

import (
	"cmp"
	"container/heap"
	"fmt"
	"slices"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
)

// Shape is what a fleet's replicas are like.
type Shape struct {
	Name  string // of the workload; its pods are called Name-0001 and so on
	Slots int    // requests that one replica works on at once
	GPUs  int    // that one replica holds, from its creation to its end
	// Start is the time from a pod's creation until its process runs and has an IP.
	Start time.Duration
	// Load is the time the process then needs to load its model, until it is ready.
	Load time.Duration
}

// Fleet is an inference fleet and the dispatcher in front of it, in story time.
// Every request goes to the ready replica that has the fewest, and waits in the
// dispatcher while there is none. No request is ever lost: a replica that is
// scaled away takes no new ones and goes when the last of its own is done.
//
// A Fleet is for one goroutine; it moves when [Fleet.Advance] moves it.
type Fleet struct {
	shape     Shape
	arrivals  Arrivals
	nodes     *nodes // that it shares with others
	subnet    int
	now       time.Time
	next      Arrival
	more      bool // next is one
	events    events
	replicas  []*replica // in the order of their creation, draining ones too
	backlog   []request  // what came while no replica was ready
	created   int
	changes   uint64
	scheduled uint64    // events so far, which orders those of one instant
	stats     Stats     // its sums; the rest is filled in by Stats
	first     time.Time // when the first request arrived
}

// Stats is what a fleet has done so far, and what it is doing.
type Stats struct {
	Arrived, Served int
	Active, Waiting int // now; together the load
	Queued          int // now: those of the waiting that no replica has
	Replicas, Ready int // now: those asked for, and those of them that take requests
	Pending         int // now: those of them that no node has GPUs for
	Draining        int // now: replicas that only finish what they have
	Peak            int // the largest Replicas so far
	// LongestWait is the longest time from a request's arrival until its service
	// began, or until now where it has not begun.
	LongestWait time.Duration
	GPUSeconds  float64 // held, busy or not
}

// Load is the requests in the fleet, running and waiting.
func (s Stats) Load() int { return s.Active + s.Waiting }

// NewFleet returns a fleet whose first replicas are ready at start. There are
// as many GPUs as it may ever need.
func NewFleet(start time.Time, replicas int, shape Shape, arrivals Arrivals) *Fleet {
	return newFleet(start, replicas, shape, arrivals, newNodes([]int{1 << 20}), 0)
}

// newFleet is one on nodes that it may share with others, which tell its pods' IPs
// from theirs by the number of its subnet.
func newFleet(start time.Time, replicas int, shape Shape, arrivals Arrivals, on *nodes, subnet int) *Fleet {
	f := &Fleet{shape: shape, arrivals: arrivals, now: start, nodes: on, subnet: subnet}
	f.next, f.more = arrivals.Next()
	for range replicas {
		r := f.create()
		r.node, _ = on.place(shape.GPUs)
		r.state = ready
	}
	f.stats.Replicas, f.stats.Peak = replicas, replicas
	return f
}

// Advance plays everything that happens until to. An earlier time changes nothing.
func (f *Fleet) Advance(to time.Time) {
	for {
		due := len(f.events) > 0 && !f.events[0].at.After(to)
		arrives := f.more && !f.next.At.After(to)
		switch {
		case due && (!arrives || !f.events[0].at.After(f.next.At)):
			e := heap.Pop(&f.events).(event)
			f.now = e.at
			f.happen(e)
		case arrives:
			f.now = f.next.At
			if f.stats.Arrived++; f.stats.Arrived == 1 {
				f.first = f.now
			}
			f.dispatch(request{arrived: f.now, service: f.next.Service})
			f.next, f.more = f.arrivals.Next()
		default:
			if to.After(f.now) {
				f.now = to
			}
			return
		}
	}
}

// Scale asks for so many replicas, now. More are created; fewer are taken from
// those that would be missed least, in the order of a ReplicaSet: the least
// started first, then the youngest.
func (f *Fleet) Scale(replicas int) {
	var live []*replica
	for _, r := range f.replicas {
		if r.state != draining {
			live = append(live, r)
		}
	}
	for range replicas - len(live) {
		f.create()
	}
	slices.SortStableFunc(live, func(a, b *replica) int {
		return cmp.Or(cmp.Compare(a.state, b.state), cmp.Compare(b.number, a.number))
	})
	for _, r := range live[:max(0, len(live)-replicas)] {
		placed := r.state != pending
		r.state = draining
		f.changes++
		f.release(r, placed)
	}
	f.stats.Replicas, f.stats.Peak = replicas, max(f.stats.Peak, replicas)
	f.place()
}

// place starts the replicas that wait for GPUs and find some.
func (f *Fleet) place() {
	for _, r := range f.replicas {
		if r.state != pending {
			continue
		}
		node, ok := f.nodes.place(f.shape.GPUs)
		if !ok {
			return
		}
		r.node, r.state, r.created = node, starting, f.now
		f.changes++
		f.after(f.shape.Start, event{kind: started, replica: r})
	}
}

// Stats returns the fleet's figures at the time it has been advanced to.
func (f *Fleet) Stats() Stats {
	s := f.stats
	s.Waiting, s.Queued = len(f.backlog), len(f.backlog)
	oldest := f.now
	if len(f.backlog) > 0 {
		oldest = f.backlog[0].arrived
	}
	for _, r := range f.replicas {
		s.Active += r.active
		s.Waiting += len(r.waiting)
		if len(r.waiting) > 0 && r.waiting[0].arrived.Before(oldest) {
			oldest = r.waiting[0].arrived
		}
		switch r.state {
		case pending:
			s.Pending++
		case ready:
			s.Ready++
		case draining:
			s.Draining++
		case starting, loading:
		}
		s.GPUSeconds += f.held(r)
	}
	s.LongestWait = max(s.LongestWait, f.now.Sub(oldest))
	return s
}

// Pods lists the fleet's pods as Kubernetes would.
func (f *Fleet) Pods() []cluster.Pod {
	pods := make([]cluster.Pod, 0, len(f.replicas))
	for _, r := range f.replicas {
		pods = append(pods, r.pod())
	}
	return pods
}

// Changes counts the changes that an informer of the pods would have seen.
func (f *Fleet) Changes() uint64 { return f.changes }

// replicaOf returns the replica with the IP, nil when there is none any more.
func (f *Fleet) replicaOf(ip string) *replica {
	for _, r := range f.replicas {
		if r.ip == ip {
			return r
		}
	}
	return nil
}

func (f *Fleet) create() *replica {
	f.created++
	f.changes++
	r := &replica{
		queue: queue{slots: f.shape.Slots}, created: f.now, number: f.created,
		name: fmt.Sprintf("%s-%04d", f.shape.Name, f.created),
		// .0 and .1 of a pod network are taken; the rest goes round in hundreds.
		ip: fmt.Sprintf("10.%d.%d.%d", 244+f.subnet, f.created/200, 2+f.created%200),
	}
	f.replicas = append(f.replicas, r)
	return r
}

func (f *Fleet) happen(e event) {
	r := e.replica
	switch e.kind {
	case started:
		if r.state == starting {
			r.state = loading
			f.changes++
			f.after(f.shape.Load, event{kind: loaded, replica: r})
		}
	case loaded:
		if r.state == loading {
			r.state = ready
			f.changes++
			f.drainBacklog()
		}
	case finished:
		f.stats.Served++
		if next, ok := r.finish(f.now, e.request); ok {
			f.begin(r, next)
		}
		f.release(r, true)
	}
}

func (f *Fleet) drainBacklog() {
	waiting := f.backlog
	f.backlog = nil
	for _, q := range waiting {
		f.dispatch(q)
	}
}

// dispatch gives a request to the ready replica with the fewest active ones,
// and among full replicas to the one with the fewest waiting: the fewest in
// flight, since nothing waits at a replica with a free slot.
func (f *Fleet) dispatch(q request) {
	var to *replica
	for _, r := range f.replicas {
		if r.state == ready && (to == nil || r.inFlight() < to.inFlight()) {
			to = r
		}
	}
	if to == nil {
		f.backlog = append(f.backlog, q)
		return
	}
	q.received = f.now
	if to.add(q) {
		f.begin(to, q)
	}
}

// begin is the moment at which a request stops waiting.
func (f *Fleet) begin(r *replica, q request) {
	f.stats.LongestWait = max(f.stats.LongestWait, f.now.Sub(q.arrived))
	f.after(q.service, event{kind: finished, replica: r, request: q})
}

// release removes a draining replica that has nothing left to do; placed: it had its GPUs.
func (f *Fleet) release(r *replica, placed bool) {
	if r.state != draining || r.inFlight() > 0 {
		return
	}
	if placed {
		f.stats.GPUSeconds += f.held(r)
		f.nodes.release(r.node, f.shape.GPUs)
	}
	f.changes++
	f.replicas = slices.DeleteFunc(f.replicas, func(other *replica) bool { return other == r })
}

// held is the GPU-seconds of a replica until now.
func (f *Fleet) held(r *replica) float64 {
	if r.state == pending {
		return 0
	}
	return float64(f.shape.GPUs) * f.now.Sub(r.created).Seconds()
}

func (f *Fleet) after(d time.Duration, e event) {
	f.scheduled++
	e.at, e.order = f.now.Add(d), f.scheduled
	heap.Push(&f.events, e)
}
