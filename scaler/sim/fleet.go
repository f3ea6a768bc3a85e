package sim

import (
	"cmp"
	"container/heap"
	"fmt"
	"slices"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
)

// Shape describes the replicas of a fleet.
type Shape struct {
	Name  string // of the workload; its pods have the names Name-0001 and so on
	Slots int    // concurrent requests of one replica
	GPUs  int    // of one replica
	// Start is the time from a pod's placement on a node until its process runs.
	Start time.Duration
	// ModelLoad is the time from then until the model is loaded and the pod is ready.
	ModelLoad time.Duration
}

// Fleet is an inference fleet with a dispatcher. The dispatcher sends each request to the ready
// replica with the fewest requests, and queues it while no replica is ready. No request is lost:
// a removed replica finishes its requests first.
//
// A Fleet is not safe for concurrent use. Only [Fleet.Advance] moves its time.
type Fleet struct {
	shape     Shape
	arrivals  Arrivals
	nodes     *Nodes // shared with other fleets
	subnet    int
	now       time.Time
	next      Arrival
	hasNext   bool // next is valid
	events    events
	replicas  []*replica // in the order of creation, including draining ones
	backlog   []request  // in the dispatcher, while no replica is ready
	created   int
	changes   uint64
	scheduled uint64    // number of events so far; orders the events of one instant
	stats     Stats     // sums and peaks; Fleet.Stats adds the rest
	first     time.Time // arrival of the first request
}

// Stats are a fleet's current state and its sums so far.
type Stats struct {
	Arrived, Served int
	Active, Waiting int // requests now
	Queued          int // requests now in the dispatcher, a part of Waiting
	Replicas, Ready int // spec.replicas and status.readyReplicas
	Pending         int // replicas without free GPUs
	Draining        int // removed replicas with unfinished requests
	Peak            int // the largest Replicas so far
	// LongestWait is the longest time from a request's arrival to the start of its service.
	LongestWait time.Duration
	GPUSeconds  float64 // allocated, busy or idle
}

// Load is the number of active and waiting requests.
func (s Stats) Load() int { return s.Active + s.Waiting }

// NewFleet returns a fleet whose first replicas are ready at start. Fleets may share nodes. Each
// needs a separate subnet for the IPs of its pods.
func NewFleet(start time.Time, replicas int, shape Shape, arrivals Arrivals, nodes *Nodes, subnet int) *Fleet {
	f := &Fleet{shape: shape, arrivals: arrivals, now: start, nodes: nodes, subnet: subnet}
	f.next, f.hasNext = arrivals.Next()
	for range replicas {
		r := f.create()
		r.node, _ = nodes.place(shape.GPUs)
		r.state = ready
	}
	f.stats.Replicas, f.stats.Peak = replicas, replicas
	return f
}

// Advance processes all events up to a time. An earlier time changes nothing.
func (f *Fleet) Advance(to time.Time) {
	for {
		due := len(f.events) > 0 && !f.events[0].at.After(to)
		arrives := f.hasNext && !f.next.At.After(to)
		switch {
		case due && (!arrives || !f.events[0].at.After(f.next.At)):
			e := heap.Pop(&f.events).(event)
			f.now = e.at
			f.handle(e)
		case arrives:
			f.now = f.next.At
			if f.stats.Arrived++; f.stats.Arrived == 1 {
				f.first = f.now
			}
			f.dispatch(request{arrived: f.now, service: f.next.Service})
			f.next, f.hasNext = f.arrivals.Next()
		default:
			if to.After(f.now) {
				f.now = to
			}
			return
		}
	}
}

// Scale sets the number of replicas. It removes replicas in the order of a ReplicaSet: first
// those furthest from ready, then the youngest.
func (f *Fleet) Scale(replicas int) {
	var present []*replica
	for _, r := range f.replicas {
		if r.state != draining {
			present = append(present, r)
		}
	}
	for range replicas - len(present) {
		f.create()
	}
	slices.SortStableFunc(present, func(a, b *replica) int {
		return cmp.Or(cmp.Compare(a.state, b.state), cmp.Compare(b.number, a.number))
	})
	for _, r := range present[:max(0, len(present)-replicas)] {
		placed := r.state != pending
		r.state = draining
		f.changes++
		f.release(r, placed)
	}
	f.stats.Replicas, f.stats.Peak = replicas, max(f.stats.Peak, replicas)
	f.Place()
}

// Place places pending replicas on nodes with enough free GPUs.
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
		f.schedule(f.shape.Start, event{kind: started, replica: r})
	}
}

// Stats returns the statistics at the fleet's current time.
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
		s.GPUSeconds += f.gpuSeconds(r)
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

// FirstArrival returns the arrival of the first request, or the zero time before it.
func (f *Fleet) FirstArrival() time.Time { return f.first }

// Changes counts the changes that an informer of the pods would report.
func (f *Fleet) Changes() uint64 { return f.changes }

// Shape returns the description of the replicas.
func (f *Fleet) Shape() Shape { return f.shape }

// IPs returns the address of each replica, including those that have not started.
func (f *Fleet) IPs() (all []string) {
	for _, r := range f.replicas {
		all = append(all, r.ip)
	}
	return all
}

// Replica returns the queue of the replica with the IP; false if there is none.
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
		// The host part starts at 2: .0 and .1 of a subnet are reserved.
		ip: fmt.Sprintf("10.%d.%d.%d", 244+f.subnet, f.created/200, 2+f.created%200),
	}
	f.replicas = append(f.replicas, r)
	return r
}

func (f *Fleet) handle(e event) {
	r := e.replica
	switch e.kind {
	case started:
		if r.state == starting {
			r.state = loading
			f.changes++
			f.schedule(f.shape.ModelLoad, event{kind: loaded, replica: r})
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
			f.startService(r, next)
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

// dispatch sends a request to the ready replica with the fewest requests.
func (f *Fleet) dispatch(q request) {
	var least *replica
	for _, r := range f.replicas {
		if r.state == ready && (least == nil || r.inFlight() < least.inFlight()) {
			least = r
		}
	}
	if least == nil {
		f.backlog = append(f.backlog, q)
		return
	}
	q.received = f.now
	if least.add(q) {
		f.startService(least, q)
	}
}

// startService starts the service of a request.
func (f *Fleet) startService(r *replica, q request) {
	f.stats.LongestWait = max(f.stats.LongestWait, f.now.Sub(q.arrived))
	f.schedule(q.service, event{kind: finished, replica: r, request: q})
}

// release removes a draining replica once it has no requests. placed reports whether it has
// GPUs.
func (f *Fleet) release(r *replica, placed bool) {
	if r.state != draining || r.inFlight() > 0 {
		return
	}
	if placed {
		f.stats.GPUSeconds += f.gpuSeconds(r)
		f.nodes.release(r.node, f.shape.GPUs)
	}
	f.changes++
	f.replicas = slices.DeleteFunc(f.replicas, func(other *replica) bool { return other == r })
}

// gpuSeconds returns the GPU-seconds of a replica so far.
func (f *Fleet) gpuSeconds(r *replica) float64 {
	if r.state == pending {
		return 0
	}
	return float64(f.shape.GPUs) * f.now.Sub(r.created).Seconds()
}

func (f *Fleet) schedule(d time.Duration, e event) {
	f.scheduled++
	e.at, e.order = f.now.Add(d), f.scheduled
	heap.Push(&f.events, e)
}
