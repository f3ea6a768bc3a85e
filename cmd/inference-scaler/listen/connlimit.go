package listen

import (
	"cmp"
	"net"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Limits bound the open connections of one listener. A zero field has its default.
type Limits struct {
	// PerAddress: default 256. KEDA's operator opens one connection to each replica, and a
	// reporter a few; the rest leaves space for tools and for proxies.
	PerAddress int
	// Total: default 4096. An idle gRPC connection costs about 20 KiB.
	Total int
}

// connLimit is a listener that closes a new connection at once while its address, or all
// addresses together, have too many open.
type connLimit struct {
	net.Listener
	limits  Limits
	refused prometheus.Counter

	mu    sync.Mutex
	open  map[string]int // by address
	total int
}

func newConnLimit(l net.Listener, name string, limits Limits, reg prometheus.Registerer) *connLimit {
	refused := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "inference_scaler_connections_refused_total", ConstLabels: prometheus.Labels{"listener": name},
		Help: "Connections closed at once because their address, or all addresses together, had too many open.",
	})
	reg.MustRegister(refused)
	limits = Limits{PerAddress: cmp.Or(limits.PerAddress, 256), Total: cmp.Or(limits.Total, 4096)}
	return &connLimit{Listener: l, limits: limits, refused: refused, open: map[string]int{}}
}

// Accept implements net.Listener.
func (l *connLimit) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		address, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
		if l.admit(address) {
			return &limitedConn{Conn: conn, release: sync.OnceFunc(func() { l.release(address) })}, nil
		}
		l.refused.Inc()
		_ = conn.Close() // nothing was sent on it
	}
}

func (l *connLimit) admit(address string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total >= l.limits.Total || l.open[address] >= l.limits.PerAddress {
		return false
	}
	l.total++
	l.open[address]++
	return true
}

func (l *connLimit) release(address string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if l.open[address]--; l.open[address] == 0 {
		delete(l.open, address)
	}
}

// limitedConn is an admitted connection.
type limitedConn struct {
	net.Conn
	release func()
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	c.release()
	return c.Conn.Close()
}
