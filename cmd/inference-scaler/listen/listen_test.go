package listen

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// start runs a server until the test ends.
func start(t *testing.T, s *Server) *Server {
	require.NoError(t, Open(s))
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	t.Cleanup(func() {
		require.NoError(t, s.Close())
		require.NoError(t, <-served)
	})
	return s
}

func options(t *testing.T) Options {
	return Options{Name: t.Name(), Flag: "address", Address: "127.0.0.1:0", Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler)}
}

// dialFrom connects from an address in 127.0.0.0/8, which are all local on Linux. It reports
// whether the server responds instead of closing the connection.
func dialFrom(t *testing.T, source string, to *Server) (net.Conn, bool) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	conn, err := dialer.DialContext(t.Context(), "tcp", to.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	request := "GET / HTTP/1.1\r\nHost: test\r\n\r\n"
	if to.GRPC != nil {
		request = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	}
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	_, err = conn.Write([]byte(request))
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
	}
	return conn, err == nil
}

func TestConnectionLimits(t *testing.T) {
	for name, newServer := range map[string]func(Options) *Server{
		"gRPC": func(o Options) *Server { return NewGRPC(o, 1) },
		"HTTP": func(o Options) *Server { return NewHTTP(o, http.NotFoundHandler()) },
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t)
			o.Limits = Limits{PerAddress: 3, Total: 5}
			s := start(t, newServer(o))
			open := func(source string) net.Conn {
				conn, accepted := dialFrom(t, source, s)
				require.True(t, accepted)
				return conn
			}
			requireRefused := func(source string) {
				_, accepted := dialFrom(t, source, s)
				require.False(t, accepted)
			}
			first := open("127.0.0.1")
			open("127.0.0.1")
			open("127.0.0.1")
			requireRefused("127.0.0.1")
			open("127.0.0.2")
			open("127.0.0.3")
			requireRefused("127.0.0.4")
			require.InDelta(t, 2, testutil.ToFloat64(s.limit.refused), 0)

			require.NoError(t, first.Close())
			require.Eventually(t, func() bool { // the server detects the close
				_, accepted := dialFrom(t, "127.0.0.4", s)
				return accepted
			}, time.Minute, time.Millisecond)
			requireRefused("127.0.0.2")
		})
	}
}

func TestOpenIsAllOrNothing(t *testing.T) {
	occupied := start(t, NewHTTP(options(t), nil))
	o, other := options(t), options(t)
	o.Address = occupied.Addr().String()
	first := NewHTTP(other, nil)
	require.ErrorContains(t, Open(first, NewGRPC(o, 1)), "--address: listen tcp "+o.Address)
	_, err := first.listener.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
}

// A panic ends its call, and is logged. The next call is served.
func TestPanics(t *testing.T) {
	o, log := options(t), make(logged, 10)
	o.Logger = slog.New(slog.NewTextHandler(log, nil))
	var panicking atomic.Bool
	handle := func() {
		if panicking.Load() {
			panic("bang")
		}
	}
	check := func(call func() error, message string) {
		panicking.Store(true)
		require.ErrorContains(t, call(), message)
		for line := range log {
			if strings.Contains(line, "bang") {
				require.Contains(t, line, "listener="+o.Name)
				break
			}
		}
		panicking.Store(false)
		require.NoError(t, call())
	}

	seen := codes.OK // by an outer interceptor
	g := NewGRPC(o, 1<<10, grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		reply, err := handler(ctx, req)
		seen = status.Code(err)
		return reply, err
	}))
	healthpb.RegisterHealthServer(g.GRPC, panickingHealth{health.NewServer(), handle})
	start(t, g)
	conn, err := grpc.NewClient(g.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	check(func() error {
		_, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
		require.Equal(t, status.Code(err), seen)
		return err
	}, "code = Internal desc = internal error")
	_, err = healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: strings.Repeat("x", 1<<10)})
	require.Equal(t, codes.ResourceExhausted, status.Code(err), "a message above the limit")

	o.Registerer = prometheus.NewRegistry()
	h := start(t, NewHTTP(o, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { handle() })))
	check(func() error {
		resp, err := http.Get("http://" + h.Addr().String())
		if err == nil {
			err = resp.Body.Close()
		}
		return err
	}, "EOF")
}

// logged receives the lines of a log.
type logged chan string

func (l logged) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

type panickingHealth struct {
	healthpb.HealthServer
	handle func()
}

func (h panickingHealth) Check(ctx context.Context, req *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	h.handle()
	return h.HealthServer.Check(ctx, req)
}

// A call in progress finishes, and a new connection is refused.
func TestStopWaits(t *testing.T) {
	started, proceed := make(chan struct{}), make(chan struct{})
	s := start(t, NewHTTP(options(t), http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(started)
		<-proceed
	})))
	answered := make(chan error, 1)
	go func() {
		resp, err := http.Get("http://" + s.Addr().String())
		if err == nil {
			err = resp.Body.Close()
		}
		answered <- err
	}()
	<-started
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(time.Minute) }()
	require.Eventually(t, func() bool {
		_, err := net.Dial("tcp", s.Addr().String())
		return err != nil
	}, time.Minute, time.Millisecond)
	close(proceed)
	require.NoError(t, <-answered)
	require.NoError(t, <-stopped)
}
