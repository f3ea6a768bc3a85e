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

// network is an in-memory network: a connection is a net.Pipe, a host a name,
// and one real HTTP server answers for all hosts.
type network struct {
	conns  chan net.Conn // on their way to the server
	closed chan struct{}
	ended  chan struct{}
	server *http.Server

	mu    sync.Mutex
	hosts map[string]*host
}

// host is one name of a network.
type host struct {
	serve http.HandlerFunc // nil: nobody listens
	// accept says what becomes of a connection, given the server's end of it;
	// nil hands it to the HTTP server.
	accept func(ctx context.Context, server net.Conn) error

	hits      []hit
	dialled   int // connections asked for
	dialling  int // of these, neither made nor refused yet
	connected int // connections that the client has not closed
}

// hit is one request as the server saw it.
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
	time.Sleep(time.Second) // virtual: of handlers, to note it
}

// at runs f on the host of this name, or of this address.
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

// serve makes a host answer with handler from now on.
func (n *network) serve(name string, handler http.HandlerFunc) {
	n.at(name, func(h *host) { h.serve, h.accept = handler, nil })
}

// accept decides what becomes of the connections to a host from now on.
func (n *network) accept(name string, accept func(context.Context, net.Conn) error) {
	n.at(name, func(h *host) { h.accept = accept })
}

// look returns a copy of what is known of a host.
func (n *network) look(name string) (seen host) {
	n.at(name, func(h *host) { seen = *h })
	return seen
}

// open returns how many connections, or attempts at one, there are.
func (n *network) open() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	sum := 0
	for _, h := range n.hosts {
		sum += h.connected + h.dialling
	}
	return sum
}

// queries returns the query strings that a host was asked with, in order.
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
	return &clientConn{Conn: client, gone: func() { n.at(address, func(h *host) { h.connected-- }) }}, nil
}

// pass hands a connection to the HTTP server.
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

// blackhole is an address where nothing answers, not even a refusal.
func (n *network) blackhole(ctx context.Context, _ net.Conn) error {
	select {
	case <-ctx.Done():
		return &net.OpError{Op: "dial", Net: "tcp", Err: ctx.Err()}
	case <-n.closed: // else a test that fails would hang
		return net.ErrClosed
	}
}

// mute accepts a connection, reads what comes and says nothing.
func (n *network) mute(_ context.Context, server net.Conn) error {
	go func() { _, _ = io.Copy(io.Discard, server) }()
	go func() { <-n.closed; _ = server.Close() }()
	return nil
}

// deaf accepts a connection and does not even read.
func (n *network) deaf(context.Context, net.Conn) error { return nil }

// says accepts a connection, answers with these bytes whatever it is asked, and hangs up.
func says(answer string) func(context.Context, net.Conn) error {
	return func(_ context.Context, server net.Conn) error {
		go func() {
			defer server.Close()
			_, _ = server.Read(make([]byte, 4096))
			_, _ = io.WriteString(server, answer)
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

// clientConn tells when it is closed.
type clientConn struct {
	net.Conn
	once sync.Once
	gone func()
}

func (c *clientConn) Close() error {
	c.once.Do(c.gone)
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
