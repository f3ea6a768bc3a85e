package main

import (
	"net"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// KEDA's operator has one connection to each replica, or few; the others are for
	// people's tools. Whoever opens more keeps nobody else out.
	maxConnectionsOfHost = 256
	maxConnections       = 4096
)

// crowd is a listener that closes a connection at once where its host has too many, or
// all hosts together.
type crowd struct {
	net.Listener
	refused prometheus.Counter

	mu    sync.Mutex
	of    map[string]int // open connections, by host
	total int
}

// newCrowd counts what it refuses as of that listener.
func newCrowd(listener net.Listener, name string, reg prometheus.Registerer) *crowd {
	refused := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "inference_scaler_connections_refused_total", ConstLabels: prometheus.Labels{"listener": name},
		Help: "Connections closed at once, as their host or all together had too many.",
	})
	reg.MustRegister(refused)
	return &crowd{Listener: listener, refused: refused, of: map[string]int{}}
}

// Accept implements net.Listener.
func (c *crowd) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
		if c.enter(host) {
			return &member{Conn: conn, leave: sync.OnceFunc(func() { c.leave(host) })}, nil
		}
		c.refused.Inc()
		_ = conn.Close() // it has nothing to lose
	}
}

func (c *crowd) enter(host string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.total >= maxConnections || c.of[host] >= maxConnectionsOfHost {
		return false
	}
	c.total++
	c.of[host]++
	return true
}

func (c *crowd) leave(host string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total--
	if c.of[host]--; c.of[host] == 0 {
		delete(c.of, host)
	}
}

// member is a connection that has been let in.
type member struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (m *member) Close() error {
	m.leave()
	return m.Conn.Close()
}
