package sim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// leaveWithin bounds how long a replica's server waits for the scrape that is
// still on its way when the replica ends.
const leaveWithin = time.Second

// The API server in front of the fleet, where requests wait for a replica.
const (
	frontService = "api-server"
	frontIP      = "10.244.255.1"
	frontPort    = 7100
)

// network is the pod network: it gives every replica, and the API server, a server
// of its own on loopback, and leads connections to a pod's IP there.
type network struct {
	world *world
	up    chan struct{} // closed when the first servers listen
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

// DialContext connects to a pod by its IP, whatever the port, as a CNI would
// make possible. It waits while the demonstration has not begun to run.
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

// follow gives servers to the replicas that are new and takes them from those
// that are gone. Every server runs, and ends, in goroutines of spawn.
func (n *network) follow(ctx context.Context, spawn func(func() error)) error {
	present := map[string]bool{frontIP: true}
	n.world.look(func(fleets []*Fleet, _ time.Duration) {
		for _, f := range fleets {
			for _, r := range f.replicas {
				if f.shape.Slots > 0 { // others are not read
					present[r.ip] = true
				}
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

// serveFront answers a scrape of the API server.
func (n *network) serveFront(w http.ResponseWriter, r *http.Request) {
	var state front
	n.world.look(func(fleets []*Fleet, _ time.Duration) { state = front(fleets[0].Stats().Queued) })
	serveCollector(w, r, state)
}

// serveReplica answers a scrape of a replica.
func (n *network) serveReplica(ip string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var state exposition
		found := false
		n.world.look(func(fleets []*Fleet, _ time.Duration) {
			for _, f := range fleets {
				if r := f.replicaOf(ip); r != nil {
					state, found = expose(r), true
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

// leave ends the server of a replica that is gone, and lets a scrape in
// progress end for a moment: the scaler may not have heard of the end yet.
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
