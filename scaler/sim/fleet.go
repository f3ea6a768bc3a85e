package sim

import (
	"cmp"
	"container/heap"
	"fmt"
	"slices"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
)

// Shape is the properties of a fleet's replicas.
type Shape struct {
	Name  string // of the workload; its pods are called Name-0001 and so on
	Slots int    // requests that one replica processes at once
	GPUs  int    // that one replica holds while it exists
	// Start is the time from a pod's creation until its process runs and has an IP.
	Start time.Duration
	// Load is the time the process then needs to load its model, until it is ready.
	Load time.Duration
}

// Fleet is an inference fleet with a dispatcher. The dispatcher gives each request to the
// ready replica with the fewest, and keeps it while no replica is ready. No request is lost:
// a replica that is scaled away finishes its requests first.
//
// A Fleet is for one goroutine. Only [Fleet.Advance] moves its time.
type Fleet struct {
	shape     Shape
	arrivals  Arrivals
	nodes     *Nodes // shared with other fleets
	subnet    int
	now       time.Time
	next      Arrival
	more      bool // next is valid
	events    events
	replicas  []*replica // in the order of their creation, with the draining ones
	backlog   []request  // that arrived while no replica was ready
	created   int
	changes   uint64
	scheduled uint64    // events so far; it orders those of one instant
	stats     Stats     // sums and peaks; Stats adds the rest
	first     time.Time // when the first request arrived
}

// Stats are a fleet's present state, and its sums so far.
type Stats struct {
	Arrived, Served int
	Active, Waiting int // now
	Queued          int // now: waiting in the dispatcher
	Replicas, Ready int // now: asked for, and ready
	Pending         int // now: asked for, without free GPUs
	Draining        int // now: scaled away, with requests to finish
	Peak            int // the largest Replicas so far
	// LongestWait is the longest time that a request has waited for its service.
	LongestWait time.Duration
	GPUSeconds  float64 // held, busy or not
}

// Load is the requests in the fleet, running and waiting.
func (s Stats) Load() int { return s.Active + s.Waiting }

// NewFleet returns a fleet whose first replicas are ready at start. Fleets may share nodes;
// each then needs a subnet of its own, for the IPs of its pods.
func NewFleet(start time.Time, replicas int, shape Shape, arrivals Arrivals, on *Nodes, subnet int) *Fleet {
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

// Advance processes all events until to. An earlier time changes nothing.
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

// Scale sets the number of replicas. It removes them in the order of a ReplicaSet: the least
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
	f.Place()
}

// Place starts the pending replicas for which nodes have free GPUs.
func (f *Fleet) Place() {
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

// Stats returns the statistics at the present instant of the fleet.
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

// Pods returns the pods as Kubernetes would list them.
func (f *Fleet) Pods() []cluster.Pod {
	pods := make([]cluster.Pod, 0, len(f.replicas))
	for _, r := range f.replicas {
		pods = append(pods, r.pod())
	}
	return pods
}

// FirstArrival returns when the first request arrived; zero before it.
func (f *Fleet) FirstArrival() time.Time { return f.first }

// Changes counts the changes that an informer of the pods would have seen.
func (f *Fleet) Changes() uint64 { return f.changes }

// Shape returns the properties of the replicas.
func (f *Fleet) Shape() Shape { return f.shape }

// IPs returns the address of each replica, also of those that have not started.
func (f *Fleet) IPs() (all []string) {
	for _, r := range f.replicas {
		all = append(all, r.ip)
	}
	return all
}

// Replica returns the queue of the replica with the IP; false if it has ended.
func (f *Fleet) Replica(ip string) (Queue, bool) {
	for _, r := range f.replicas {
		if r.ip == ip {
			return r.snapshot(), true
		}
	}
	return Queue{}, false
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

// dispatch gives a request to the ready replica with the fewest requests.
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

// begin starts the service of a request.
func (f *Fleet) begin(r *replica, q request) {
	f.stats.LongestWait = max(f.stats.LongestWait, f.now.Sub(q.arrived))
	f.after(q.service, event{kind: finished, replica: r, request: q})
}

// release removes a draining replica without requests; placed: it holds GPUs.
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

// held returns the GPU-seconds of a replica so far.
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
