package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

// maxGRPCHeaders is in bytes, and enough for a bearer token and tracing headers.
const maxGRPCHeaders = 64 << 10

// Options describe one listener.
type Options struct {
	Name    string // in logs and metrics
	Flag    string // the flag of the address, for errors
	Address string
	TLS     *TLS // nil: plaintext
	Limits  Limits

	Registerer prometheus.Registerer
	Logger     *slog.Logger
}

// Server is a gRPC or an HTTP server with its listener.
type Server struct {
	GRPC *grpc.Server // nil for HTTP
	HTTP *http.Server // nil for gRPC

	o        Options
	limit    *connLimit
	listener net.Listener // limit, with TLS for HTTP
}

// NewGRPC returns a gRPC server that rejects messages above maxMessage bytes. Interceptors in the
// extra options are the outer ones: they see the error of a panic.
func NewGRPC(o Options, maxMessage int, extra ...grpc.ServerOption) *Server {
	recovered := recovery.WithRecoveryHandler(func(p any) error {
		o.Logger.Error("panic in a call", "listener", o.Name, "panic", p, "stack", string(debug.Stack()))
		return status.Error(codes.Internal, "internal error")
	})
	return &Server{o: o, GRPC: grpc.NewServer(append(slices.Clip(extra),
		grpc.Creds(o.TLS.server()),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxHeaderListSize(maxGRPCHeaders),
		grpc.ConnectionTimeout(10*time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.ChainUnaryInterceptor(recovery.UnaryServerInterceptor(recovered)),
		grpc.ChainStreamInterceptor(recovery.StreamServerInterceptor(recovered)),
	)...)}
}

// NewHTTP returns an HTTP/1.1 server. net/http recovers from panics of a request.
func NewHTTP(o Options, handler http.Handler) *Server {
	return &Server{o: o, HTTP: &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute, // twice the export interval of an OpenTelemetry SDK
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(o.Logger.With("listener", o.Name).Handler(), slog.LevelWarn),
	}}
}

// Open opens the listeners of all servers, or none after an error.
func Open(servers ...*Server) error {
	for i, s := range servers {
		if err := s.open(); err != nil {
			for _, opened := range servers[:i] {
				err = errors.Join(err, opened.listener.Close())
			}
			return err
		}
	}
	for _, s := range servers {
		s.o.Logger.Info("listening", "listener", s.o.Name, "address", s.Addr().String())
	}
	return nil
}

func (s *Server) open() error {
	l, err := net.Listen("tcp", s.o.Address)
	if err != nil {
		return fmt.Errorf("--%s: %w", s.o.Flag, err)
	}
	s.limit = newConnLimit(l, s.o.Name, s.o.Limits, s.o.Registerer)
	s.listener = s.limit
	// A gRPC server terminates TLS itself, so that its handlers see the client certificate.
	if cfg := s.o.TLS.config("http/1.1"); cfg != nil && s.HTTP != nil {
		s.listener = tls.NewListener(s.listener, cfg)
	}
	return nil
}

// Addr returns the address of an open server.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Serve accepts connections of an open server until it is stopped or closed.
func (s *Server) Serve() error {
	var err error
	if s.GRPC != nil {
		err = s.GRPC.Serve(s.listener)
	} else {
		err = s.HTTP.Serve(s.listener)
	}
	if errors.Is(err, grpc.ErrServerStopped) || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Stop rejects new calls and waits for those in progress. After the timeout it ends them.
func (s *Server) Stop(timeout time.Duration) error {
	if s.GRPC != nil {
		defer time.AfterFunc(timeout, s.GRPC.Stop).Stop()
		s.GRPC.GracefulStop()
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return s.HTTP.Shutdown(ctx)
}

// Close ends all calls at once.
func (s *Server) Close() error {
	if s.GRPC != nil {
		s.GRPC.Stop()
		return nil
	}
	return s.HTTP.Close()
}
