package scrape

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

// network is an in-memory network. A connection is a net.Pipe, and one real HTTP server
// serves all hosts.
type network struct {
	conns  chan net.Conn // to the server
	closed chan struct{}
	ended  chan struct{}
	server *http.Server

	mu    sync.Mutex
	hosts map[string]*host
}

// host is one name of a network.
type host struct {
	serve http.HandlerFunc // nil: no listener
	// accept handles the server's end of a new connection. If it is nil, the HTTP server
	// does.
	accept func(ctx context.Context, server net.Conn) error

	hits      []hit
	dialled   int // connection attempts
	dialling  int // attempts in progress
	connected int // connections that the client has not closed
}

// hit is one request at the server.
type hit struct {
	at     time.Time
	method string
	path   string
	query  string
	header http.Header
}

func newNetwork() *network {
	n := &network{
		conns: make(chan net.Conn), closed: make(chan struct{}), ended: make(chan struct{}),
		hosts: map[string]*host{},
	}
	n.server = &http.Server{Handler: n, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Hour}
	go func() {
		defer close(n.ended)
		_ = n.server.Serve(listener{n})
	}()
	return n
}

func (n *network) close() {
	close(n.closed)
	_ = n.server.Close()
	<-n.ended
	time.Sleep(time.Second) // virtual; handlers notice the end
}

// at calls f with the host of this name or address.
func (n *network) at(name string, f func(*host)) {
	if bare, _, err := net.SplitHostPort(name); err == nil {
		name = bare
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hosts[name] == nil {
		n.hosts[name] = &host{}
	}
	f(n.hosts[name])
}

// serve sets the handler of a host.
func (n *network) serve(name string, handler http.HandlerFunc) {
	n.at(name, func(h *host) { h.serve, h.accept = handler, nil })
}

// accept sets the function that handles new connections to a host.
func (n *network) accept(name string, accept func(context.Context, net.Conn) error) {
	n.at(name, func(h *host) { h.accept = accept })
}

// look returns a copy of a host.
func (n *network) look(name string) (found host) {
	n.at(name, func(h *host) { found = *h })
	return found
}

// open returns the number of connections and connection attempts.
func (n *network) open() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	sum := 0
	for _, h := range n.hosts {
		sum += h.connected + h.dialling
	}
	return sum
}

// queries returns the query strings of the requests to a host, in order.
func (n *network) queries(name string) []string {
	var all []string
	for _, h := range n.look(name).hits {
		all = append(all, h.query)
	}
	return all
}

// dial is an Options.Dial.
func (n *network) dial(ctx context.Context, _, address string) (net.Conn, error) {
	var accept func(context.Context, net.Conn) error
	n.at(address, func(h *host) {
		h.dialled++
		h.dialling++
		accept = h.accept
		if accept == nil && h.serve == nil {
			accept = refuse
		}
	})
	if accept == nil {
		accept = n.pass
	}
	client, server := net.Pipe()
	err := accept(ctx, server)
	n.at(address, func(h *host) {
		h.dialling--
		if err == nil {
			h.connected++
		}
	})
	if err != nil {
		return nil, err
	}
	return &clientConn{Conn: client, onClose: func() { n.at(address, func(h *host) { h.connected-- }) }}, nil
}

// pass passes a connection to the HTTP server.
func (n *network) pass(_ context.Context, server net.Conn) error {
	select {
	case n.conns <- server:
		return nil
	case <-n.closed:
		return net.ErrClosed
	}
}

// passTLS is pass for https.
func (n *network) passTLS(cfg *tls.Config) func(context.Context, net.Conn) error {
	return func(ctx context.Context, server net.Conn) error { return n.pass(ctx, tls.Server(server, cfg)) }
}

// blackhole neither accepts nor refuses a connection.
func (n *network) blackhole(ctx context.Context, _ net.Conn) error {
	select {
	case <-ctx.Done():
		return &net.OpError{Op: "dial", Net: "tcp", Err: ctx.Err()}
	case <-n.closed: // otherwise, a failed test would hang
		return net.ErrClosed
	}
}

// mute accepts a connection, reads all input and sends nothing.
func (n *network) mute(_ context.Context, server net.Conn) error {
	go func() { _, _ = io.Copy(io.Discard, server) }()
	go func() { <-n.closed; _ = server.Close() }()
	return nil
}

// deaf accepts a connection, but does not read from it.
func (n *network) deaf(context.Context, net.Conn) error { return nil }

// sends accepts a connection, responds to any request with these bytes, and closes it.
func sends(response string) func(context.Context, net.Conn) error {
	return func(_ context.Context, server net.Conn) error {
		go func() {
			defer server.Close()
			_, _ = server.Read(make([]byte, 4096))
			_, _ = io.WriteString(server, response)
		}()
		return nil
	}
}

func refuse(context.Context, net.Conn) error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
}

func (n *network) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var serve http.HandlerFunc
	n.at(req.Host, func(h *host) {
		h.hits = append(h.hits, hit{time.Now(), req.Method, req.URL.Path, req.URL.RawQuery, req.Header})
		serve = h.serve
	})
	serve(w, req)
}

// clientConn calls onClose when it is closed.
type clientConn struct {
	net.Conn
	once    sync.Once
	onClose func()
}

func (c *clientConn) Close() error {
	c.once.Do(c.onClose)
	return c.Conn.Close()
}

// listener implements net.Listener over the connections of a network.
type listener struct{ *network }

func (l listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l listener) Close() error   { return nil }
func (l listener) Addr() net.Addr { return &net.UnixAddr{Name: "memory"} }
