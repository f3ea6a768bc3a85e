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

// shutdownTimeout limits how long the server of a removed replica waits for a scrape.
const shutdownTimeout = time.Second

// The API tier, in which requests wait for a ready replica.
const (
	apiTierService = "api-server"
	apiTierIP      = "10.244.255.1"
	apiTierPort    = 7100
)

// network is the pod network. Each replica and the API tier have a server on loopback, and
// DialContext connects to it by the pod's IP.
type network struct {
	world *world
	up    chan struct{} // closed once the first servers listen
	once  sync.Once

	mu      sync.Mutex
	servers map[string]*podServer // by the pod's IP
}

// podServer is the HTTP server of one pod.
type podServer struct {
	server   *http.Server
	listener net.Listener
}

func newNetwork(w *world) *network {
	return &network{world: w, up: make(chan struct{}), servers: map[string]*podServer{}}
}

// DialContext connects to a pod by its IP and ignores the port. It waits until the demo runs.
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
	h := n.servers[ip]
	n.mu.Unlock()
	if h == nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: fmt.Errorf("no pod has the IP %s", ip)}
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", h.listener.Addr().String())
}

// reconcile starts the servers of new replicas and stops those of removed ones, in goroutines of
// spawn.
func (n *network) reconcile(ctx context.Context, spawn func(func() error)) error {
	present := map[string]bool{apiTierIP: true}
	n.world.withFleets(func(fleets []*sim.Fleet, _ time.Duration) {
		for _, f := range fleets {
			if f.Shape().Slots == 0 { // the API tier has no engine metrics
				continue
			}
			for _, ip := range f.IPs() {
				present[ip] = true
			}
		}
	})
	n.mu.Lock()
	defer n.mu.Unlock()
	for ip, h := range n.servers {
		if !present[ip] {
			delete(n.servers, ip)
			spawn(func() error { return h.shutdown(ctx) })
		}
	}
	for ip := range present {
		if n.servers[ip] != nil {
			continue
		}
		serve := n.serveReplica(ip)
		if ip == apiTierIP {
			serve = n.serveAPITier
		}
		h, err := n.listen(ctx, serve)
		if err != nil {
			return err
		}
		n.servers[ip] = h
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
	for ip, h := range n.servers {
		delete(n.servers, ip)
		errs = append(errs, h.server.Close())
	}
	return errors.Join(errs...)
}

func (n *network) listen(ctx context.Context, metrics http.HandlerFunc) (*podServer, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("serve a simulated replica: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", metrics)
	return &podServer{listener: l, server: &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}}, nil
}

// serveAPITier serves a scrape of the API tier.
func (n *network) serveAPITier(w http.ResponseWriter, r *http.Request) {
	var state apiTier
	n.world.withFleets(func(fleets []*sim.Fleet, _ time.Duration) { state = apiTier(fleets[0].Stats().Queued) })
	serveCollector(w, r, state)
}

// serveReplica serves a scrape of a replica.
func (n *network) serveReplica(ip string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var state exposition
		found := false
		n.world.withFleets(func(fleets []*sim.Fleet, _ time.Duration) {
			for _, f := range fleets {
				if q, ok := f.Replica(ip); ok {
					state, found = exposition(q), true
				}
			}
		})
		if !found {
			http.Error(w, "the replica has ended", http.StatusServiceUnavailable)
			return
		}
		serveCollector(w, r, state)
	}
}

func (h *podServer) serve() error {
	if err := h.server.Serve(h.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve a simulated replica: %w", err)
	}
	return nil
}

// shutdown stops the server of a removed replica after a scrape in progress: the scaler may not
// know of the removal yet.
func (h *podServer) shutdown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, shutdownTimeout)
	defer cancel()
	if h.server.Shutdown(ctx) == nil {
		return nil
	}
	if err := h.server.Close(); err != nil {
		return fmt.Errorf("close a simulated replica: %w", err)
	}
	return nil
}
