package inference

import (
	"cmp"
	"errors"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Fleet is the servers of one workload, and the gateway in front of them. A batch
// request goes to the ready server that has least to do, and stays there; while
// there is none it waits in the gateway. A streaming session waits in the
// gateway's own queue, as in the Redis of an ASR API server, until a ready server
// has a free stream slot. What a server leaves behind when its pod ends is sent
// again, as clients do.
type Fleet struct {
	mu      sync.Mutex
	x       map[string]*exposition
	servers map[string]*server // by pod UID
	backlog []*Request
	streams []*Request
	renames []string
	mark    time.Time
	stats   Stats
}

// Stats is what a fleet has done so far, and what it is doing.
type Stats struct {
	Arrived, Served, Retried int
	Running, Waiting         int // in the servers; sessions run or wait in the gateway
	Backlog                  int // batch requests in the gateway
	StreamQueue              int
	Servers, Ready           int
	// LongestWait is the longest time from a request's arrival until its service
	// began, of those that began and of those that wait still.
	LongestWait time.Duration
	// LatestWait is the same of those that came after the last [Fleet.Mark].
	LatestWait time.Duration
	// GPUSeconds are those that pods have held, busy or not.
	GPUSeconds float64
}

// InFlight is all work that is not done.
func (s Stats) InFlight() int { return s.Running + s.Waiting + s.Backlog + s.StreamQueue }

// Submit hands requests to the gateway.
func (f *Fleet) Submit(requests ...*Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	for _, r := range requests {
		r.arrived = now
		f.stats.Arrived++
		f.route(r, now)
	}
}

// SubmitToEnding hands a request to the servers whose pods are to end: a client that
// does not know of their end. It reports whether there was one.
func (f *Fleet) SubmitToEnding(r *Request) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.servers {
		if s.going {
			now := time.Now()
			r.arrived = now
			f.stats.Arrived++
			s.receive(r, now)
			return true
		}
	}
	return false
}

// Finish ends n requests, the oldest first, as if they had been served; a negative
// n means all that servers have.
func (f *Fleet) Finish(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for ; n != 0; n-- {
		var oldest *Request
		var at *server
		for _, s := range f.servers {
			for _, r := range slices.Concat(s.running, s.streams) {
				if oldest == nil || r.arrived.Before(oldest.arrived) {
					oldest, at = r, s
				}
			}
		}
		if oldest == nil {
			return
		}
		if oldest.timer != nil {
			oldest.timer.Stop()
		}
		at.finish(oldest, time.Now())
	}
}

func (f *Fleet) route(r *Request, now time.Time) {
	if r.Stream {
		f.streams = append(f.streams, r)
		f.pullStreams(now)
		return
	}
	var best *server
	for _, s := range f.servers {
		if s.ready && !s.going && (best == nil || cmp.Or(cmp.Compare(s.load(), best.load()), cmp.Compare(s.pod, best.pod)) < 0) {
			best = s
		}
	}
	if best == nil {
		f.backlog = append(f.backlog, r)
		return
	}
	best.receive(r, now)
}

// pullStreams gives waiting sessions to free stream slots.
func (f *Fleet) pullStreams(now time.Time) {
	for len(f.streams) > 0 {
		var best *server
		for _, s := range f.servers {
			if s.ready && !s.going && len(s.streams) < s.profile.streamSlots && (best == nil || len(s.streams) < len(best.streams)) {
				best = s
			}
		}
		if best == nil {
			return
		}
		r := f.streams[0]
		f.streams = f.streams[1:]
		r.received = now
		best.streams = append(best.streams, r)
		best.begin(r, now)
	}
}

// waited counts the wait of a request until now.
func (st *Stats) waited(r *Request, now, mark time.Time) {
	d := now.Sub(r.arrived)
	st.LongestWait = max(st.LongestWait, d)
	if r.arrived.After(mark) {
		st.LatestWait = max(st.LatestWait, d)
	}
}

// Stats returns those of now.
func (f *Fleet) Stats() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	st := f.stats
	st.Backlog, st.StreamQueue = len(f.backlog), len(f.streams)
	waits := func(list []*Request) {
		for _, r := range list {
			if !r.began.IsZero() {
				continue
			}
			st.waited(r, now, f.mark)
		}
	}
	waits(f.backlog)
	waits(f.streams)
	for _, s := range f.servers {
		st.Servers++
		if s.ready && !s.going {
			st.Ready++
		}
		st.Running += len(s.running) + len(s.streams)
		st.Waiting += len(s.waiting)
		st.GPUSeconds += now.Sub(s.created).Seconds()
		waits(s.waiting)
	}
	return st
}

// Mark begins a new interval, which Stats reports separately.
func (f *Fleet) Mark() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mark, f.stats.LatestWait = time.Now(), 0
}

// Addresses are the host:port of the metrics of each server that serves, by pod.
func (f *Fleet) Addresses() map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := map[string]string{}
	for _, s := range f.servers {
		if !s.loaded.IsZero() {
			all[s.pod] = net.JoinHostPort(s.ip, strconv.Itoa(f.x[s.profile.engine].engine.port))
		}
	}
	return all
}

// Fail gives the first n servers, by the names of their pods, a fault; the others
// have none from now on. A negative n means all.
func (f *Fleet) Fail(n int, fault Fault) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var errs []error
	for i, s := range f.byName() {
		is := None
		if n < 0 || i < n {
			is = fault
		}
		errs = append(errs, s.set(is, f.x[s.profile.engine]))
	}
	return errors.Join(errs...)
}

// Rename replaces texts wherever they occur in the servers' bodies: pairs of a text
// and its replacement. No pairs undo it.
func (f *Fleet) Rename(pairs ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.renames = pairs
}

func (f *Fleet) byName() []*server {
	all := make([]*server, 0, len(f.servers))
	for _, s := range f.servers {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *server) int { return cmp.Compare(a.pod, b.pod) })
	return all
}

// becomeReady sends the server its share from now on, and what waits.
func (f *Fleet) becomeReady(s *server, ready bool) {
	s.ready = ready
	if !ready {
		return
	}
	now := time.Now()
	backlog := f.backlog
	f.backlog = nil
	for _, r := range backlog {
		f.route(r, now)
	}
	f.pullStreams(now)
}

// remove ends a server, and sends again what it has not done.
func (f *Fleet) remove(uid string) error {
	s := f.servers[uid]
	if s == nil {
		return nil
	}
	delete(f.servers, uid)
	now := time.Now()
	f.stats.GPUSeconds += now.Sub(s.created).Seconds()
	for _, r := range s.abandon() {
		f.stats.Retried++
		f.route(r, now)
	}
	return s.close()
}
