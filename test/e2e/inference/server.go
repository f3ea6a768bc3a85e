package inference

import (
	"math"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// State is what one server shows of itself at one moment.
type State struct {
	Slots, Running, Waiting int // batch requests, or an LLM's
	Streams                 int // streaming sessions that it serves
	StreamQueue             int // sessions that wait, of the whole fleet
	Served                  int // requests and sessions, so far
	measured                [measures]histogram
}

// filled is the share of its slots that are taken.
func (s State) filled() float64 {
	if s.Slots == 0 {
		return 0
	}
	return min(1, float64(s.Running)/float64(s.Slots))
}

// fullCache is the share of the KV cache that a full batch takes.
const fullCache = 0.95

// cache is the share of its KV cache that is in use.
func (s State) cache() float64 { return fullCache * s.filled() }

// warmupFactor is how much longer service takes on a server that is not warm.
const warmupFactor = 2

// prefill is the time from the begin of a request's service to its first token.
const prefill = 50 * time.Millisecond

// profile describes a server, by its pod's annotations.
type profile struct {
	engine      string
	slots       int
	streamSlots int
	startup     time.Duration // from its start until it serves: model loading
	warmup      time.Duration // after that, for which service takes warmupFactor times as long
}

// Request is one piece of work.
type Request struct {
	Service time.Duration // that a warm server needs
	Stream  bool          // a streaming session, which needs a stream slot

	arrived  time.Time // at the gateway
	received time.Time // by its server
	began    time.Time
	timer    *time.Timer // of its end
}

// Endless is the Service of a request that lasts until [Fleet.Finish] ends it, so
// that a scenario may take its time.
const Endless = time.Duration(math.MaxInt64)

// server is the inference server of one pod. Its fleet's lock guards it.
type server struct {
	fleet   *Fleet
	profile profile
	pod, ip string
	created time.Time // its pod

	loaded  time.Time // since when it serves; zero while it loads its model
	ready   bool      // requests are sent to it
	going   bool      // its pod is to end
	waiting []*Request
	running []*Request
	streams []*Request
	served  int
	measure [measures]histogram

	fault    Fault
	answered chan struct{} // closed when the fault ends
	http     *http.Server
}

// Fault is what is wrong with a server's metrics endpoint.
type Fault int

const (
	// None: it answers.
	None Fault = iota
	// Hang: it takes a request and never answers.
	Hang
	// Refuse: nothing listens.
	Refuse
)

func (s *server) state() State {
	state := State{
		Slots: s.profile.slots, Running: len(s.running), Waiting: len(s.waiting),
		Streams: len(s.streams), StreamQueue: len(s.fleet.streams), Served: s.served,
		measured: s.measure,
	}
	for i := range state.measured {
		state.measured[i].counts = slices.Clone(state.measured[i].counts)
	}
	return state
}

// load is by which the gateway tells who has least to do.
func (s *server) load() int { return len(s.running) + len(s.waiting) }

// receive takes a request into a slot or behind the others.
func (s *server) receive(r *Request, now time.Time) {
	r.received = now
	if len(s.running) < s.profile.slots {
		s.running = append(s.running, r)
		s.begin(r, now)
		return
	}
	s.waiting = append(s.waiting, r)
}

// begin starts a request's service; the request is in its list already.
func (s *server) begin(r *Request, now time.Time) {
	if r.began.IsZero() { // what is sent again has waited before
		s.fleet.stats.waited(r, now, s.fleet.mark)
	}
	r.began = now
	s.measure[queueTime].observe(now.Sub(r.received).Seconds())
	s.measure[firstToken].observe((now.Sub(r.received) + prefill).Seconds())
	service := r.Service
	if now.Before(s.loaded.Add(s.profile.warmup)) {
		service *= warmupFactor
	}
	if r.Service == Endless {
		return
	}
	r.timer = time.AfterFunc(service, func() {
		s.fleet.mu.Lock()
		defer s.fleet.mu.Unlock()
		s.finish(r, time.Now())
	})
}

// finish ends a request, and gives its slot to the next one.
func (s *server) finish(r *Request, now time.Time) {
	f := s.fleet
	list := &s.running
	if r.Stream {
		list = &s.streams
	}
	i := slices.Index(*list, r)
	if i < 0 {
		return // its server has gone, and it was sent elsewhere
	}
	*list = slices.Delete(*list, i, i+1)
	s.served++
	s.measure[latency].observe(now.Sub(r.received).Seconds())
	f.stats.Served++
	if !r.Stream && len(s.waiting) > 0 {
		next := s.waiting[0]
		s.waiting = s.waiting[1:]
		s.running = append(s.running, next)
		s.begin(next, now)
	}
	f.pullStreams(now)
}

// abandon returns all that the server has not finished.
func (s *server) abandon() []*Request {
	all := slices.Concat(s.running, s.waiting, s.streams)
	for _, r := range all {
		if r.timer != nil {
			r.timer.Stop()
		}
	}
	s.running, s.waiting, s.streams = nil, nil, nil
	return all
}

// listen serves the pod's /metrics at its own address.
func (s *server) listen(x *exposition) error {
	listener, err := net.Listen("tcp", net.JoinHostPort(s.ip, strconv.Itoa(x.engine.port)))
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) { s.serveMetrics(w, r, x) })
	s.http = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func(h *http.Server) { _ = h.Serve(listener) }(s.http) // ends when it is closed
	return nil
}

func (s *server) serveMetrics(w http.ResponseWriter, r *http.Request, x *exposition) {
	s.fleet.mu.Lock()
	fault, answered, state, renames := s.fault, s.answered, s.state(), s.fleet.renames
	s.fleet.mu.Unlock()
	if fault == Hang {
		select {
		case <-answered:
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler) // not even an empty answer
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(x.render(s.pod, state, r.URL.Query()["name[]"], renames)) // the scraper went
}

// set makes the fault the server's present one.
func (s *server) set(fault Fault, x *exposition) error {
	if s.loaded.IsZero() || s.fault == fault {
		return nil
	}
	if s.fault == Hang {
		close(s.answered)
	}
	was := s.fault
	s.fault, s.answered = fault, make(chan struct{})
	switch {
	case fault == Refuse:
		return s.close()
	case was == Refuse:
		return s.listen(x)
	}
	return nil
}

func (s *server) close() error {
	if s.http == nil {
		return nil
	}
	err := s.http.Close()
	s.http = nil
	return err
}
