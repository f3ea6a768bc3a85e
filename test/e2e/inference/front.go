package inference

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	// FrontAnnotation names the workload that a pod is the API server of: it exports
	// the requests that wait in the workload's gateway, and those in flight.
	FrontAnnotation = "e2e/front"
	// frontPort is where it does.
	frontPort = 7100
)

// front makes a pod the API server of a fleet, once it has an address.
func (s *Simulator) front(ctx context.Context, pod *corev1.Pod) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	uid := string(pod.UID)
	if pod.Status.PodIP == "" || s.fronts[uid] != nil {
		return nil
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(frontPort)))
	if err != nil {
		return err
	}
	f := s.fleet(pod.Namespace, pod.Annotations[FrontAnnotation])
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		var stats Stats
		if s.holds(uid) {
			stats = f.Stats()
		}
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_, _ = fmt.Fprintf(w, "demand_queued_requests %d\ndemand_inflight_requests %d\ndemand_requests_total %d\n",
			stats.Backlog+stats.StreamQueue, stats.InFlight(), stats.Arrived)
	})
	s.joined++
	server := &front{Server: http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}, of: f, joined: s.joined}
	s.fronts[uid] = server
	go func() { _ = server.Serve(listener) }() // ends when it is closed
	go func() { s.report(pod, s.SetReady(ctx, pod.Namespace, pod.Name)) }()
	return nil
}

// front is one API server of a fleet.
type front struct {
	http.Server
	of     *Fleet
	joined int
}

// holds reports whether the API server is the one that all that waits is at: the first
// that came. A request waits at one of them alone.
func (s *Simulator) holds(uid string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := s.fronts[uid]
	for _, other := range s.fronts {
		if own == nil || other.of == own.of && other.joined < own.joined {
			return false
		}
	}
	return own != nil
}

func (s *Simulator) removeFront(pod *corev1.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if server := s.fronts[string(pod.UID)]; server != nil {
		_ = server.Close()
		delete(s.fronts, string(pod.UID))
	}
}
