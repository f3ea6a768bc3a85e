package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/inference-scaler/inference-scaler/scaler/sim"
)

// leaveWithin bounds how long the server of a replica that ends waits for a scrape.
const leaveWithin = time.Second

// The API tier in front of the fleet, where requests wait for a replica.
const (
	frontService = "api-server"
	frontIP      = "10.244.255.1"
	frontPort    = 7100
)

// network is the pod network: each replica, and the API tier, has a server on loopback, and a
// connection to a pod's IP reaches it.
type network struct {
	world *world
	up    chan struct{} // closed once the first servers listen
	once  sync.Once

	mu    sync.Mutex
	hosts map[string]*host // by the pod's IP
}

// host is a replica's server.
type host struct {
	server   *http.Server
	listener net.Listener
}

func newNetwork(w *world) *network {
	return &network{world: w, up: make(chan struct{}), hosts: map[string]*host{}}
}

// DialContext connects to a pod by its IP, and ignores the port. It waits until the demo runs.
func (n *network) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	ip, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("dial a simulated pod: %w", err)
	}
	select {
	case <-n.up:
	case <-ctx.Done():
		return nil, fmt.Errorf("dial a simulated pod: %w", ctx.Err())
	}
	n.mu.Lock()
	h := n.hosts[ip]
	n.mu.Unlock()
	if h == nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: fmt.Errorf("no pod has the IP %s", ip)}
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", h.listener.Addr().String())
}

// follow starts servers for new replicas, and stops those of ended ones, in goroutines of
// spawn.
func (n *network) follow(ctx context.Context, spawn func(func() error)) error {
	present := map[string]bool{frontIP: true}
	n.world.look(func(fleets []*sim.Fleet, _ time.Duration) {
		for _, f := range fleets {
			if f.Shape().Slots == 0 { // a follower is not scraped
				continue
			}
			for _, ip := range f.IPs() {
				present[ip] = true
			}
		}
	})
	n.mu.Lock()
	defer n.mu.Unlock()
	for ip, h := range n.hosts {
		if !present[ip] {
			delete(n.hosts, ip)
			spawn(func() error { return h.leave(ctx) })
		}
	}
	for ip := range present {
		if n.hosts[ip] != nil {
			continue
		}
		serve := n.serveReplica(ip)
		if ip == frontIP {
			serve = n.serveFront
		}
		h, err := n.listen(ctx, serve)
		if err != nil {
			return err
		}
		n.hosts[ip] = h
		spawn(h.serve)
	}
	n.once.Do(func() { close(n.up) })
	return nil
}

// close ends all servers at once.
func (n *network) close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	for ip, h := range n.hosts {
		delete(n.hosts, ip)
		errs = append(errs, h.server.Close())
	}
	return errors.Join(errs...)
}

func (n *network) listen(ctx context.Context, metrics http.HandlerFunc) (*host, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("serve a simulated replica: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", metrics)
	return &host{listener: l, server: &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}}, nil
}

// serveFront serves a scrape of the API tier.
func (n *network) serveFront(w http.ResponseWriter, r *http.Request) {
	var state front
	n.world.look(func(fleets []*sim.Fleet, _ time.Duration) { state = front(fleets[0].Stats().Queued) })
	serveCollector(w, r, state)
}

// serveReplica serves a scrape of a replica.
func (n *network) serveReplica(ip string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var state exposition
		found := false
		n.world.look(func(fleets []*sim.Fleet, _ time.Duration) {
			for _, f := range fleets {
				if q, ok := f.Replica(ip); ok {
					state, found = exposition(q), true
				}
			}
		})
		if !found {
			http.Error(w, "this replica has ended", http.StatusServiceUnavailable)
			return
		}
		serveCollector(w, r, state)
	}
}

func (h *host) serve() error {
	if err := h.server.Serve(h.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve a simulated replica: %w", err)
	}
	return nil
}

// leave stops the server of an ended replica, after a scrape in progress: the scaler does not
// know of the end yet.
func (h *host) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leaveWithin)
	defer cancel()
	if h.server.Shutdown(ctx) == nil {
		return nil
	}
	if err := h.server.Close(); err != nil {
		return fmt.Errorf("close a simulated replica: %w", err)
	}
	return nil
}
