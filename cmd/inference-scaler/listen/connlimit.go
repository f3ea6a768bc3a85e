package listen

import (
	"cmp"
	"net"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Limits are limits of the open connections of one listener. A zero field has its default.
type Limits struct {
	// PerAddress is the limit per IP address; default 256. KEDA's operator opens one connection to
	// each replica, and a reporter opens a few. A proxy may need more.
	PerAddress int
	// Total is the limit of all addresses; default 4096. An idle gRPC connection costs about 20 KiB.
	Total int
}

// connLimit is a listener that closes new connections above the limits.
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
		Help: "Connections closed at once because of the limit per address or the total limit.",
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
		if l.acquire(address) {
			return &limitedConn{Conn: conn, release: sync.OnceFunc(func() { l.release(address) })}, nil
		}
		l.refused.Inc()
		_ = conn.Close() // no data was sent
	}
}

func (l *connLimit) acquire(address string) bool {
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

// limitedConn is a connection within the limits.
type limitedConn struct {
	net.Conn
	release func()
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	c.release()
	return c.Conn.Close()
}
