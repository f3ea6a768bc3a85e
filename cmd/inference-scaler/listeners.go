package main

import (
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	"github.com/inference-scaler/inference-scaler/scaler"
	"github.com/inference-scaler/inference-scaler/scaler/evaluator"
)

// maxMessage is more than any metadata that a trigger accepts.
const maxMessage = 128 << 10

// maxHeaders is more than a token and what tracing adds.
const maxHeaders = 64 << 10

func newGRPCServer(s *scaler.Scaler, healthy *health.Server, creds credentials.TransportCredentials, reg prometheus.Registerer, logger *slog.Logger) *grpc.Server {
	calls := grpcprom.NewServerMetrics(grpcprom.WithServerHandlingTimeHistogram())
	reg.MustRegister(calls)
	server := grpc.NewServer(append([]grpc.ServerOption{
		grpc.ChainUnaryInterceptor(calls.UnaryServerInterceptor()), // counts a panic as what it is answered with
		grpc.ChainStreamInterceptor(calls.StreamServerInterceptor()),
	}, grpcOptions(creds, maxMessage, logger)...)...)
	s.Register(server)
	healthpb.RegisterHealthServer(server, healthy)
	reflection.Register(server)
	calls.InitializeMetrics(server)
	return server
}

// grpcOptions bound every gRPC listener, and keep a panic to its call.
func grpcOptions(creds credentials.TransportCredentials, largest int, logger *slog.Logger) []grpc.ServerOption {
	recovered := recovery.WithRecoveryHandler(func(p any) error {
		logger.Error("a call panicked", "panic", p, "stack", string(debug.Stack()))
		return status.Error(codes.Internal, "internal error")
	})
	return []grpc.ServerOption{
		grpc.Creds(creds),
		grpc.MaxRecvMsgSize(largest),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.ConnectionTimeout(10 * time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.ChainUnaryInterceptor(recovery.UnaryServerInterceptor(recovered)),
		grpc.ChainStreamInterceptor(recovery.StreamServerInterceptor(recovered)),
	}
}

// stopGracefully lets calls end, but not for ever.
func stopGracefully(server *grpc.Server) {
	timer := time.AfterFunc(stopWithin, server.Stop)
	defer timer.Stop()
	server.GracefulStop()
}

func newHTTPServer(s *scaler.Scaler, e *evaluator.Evaluator, reg *prometheus.Registry) *http.Server {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.Handle("GET /api/v1/", s.API())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := e.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	return &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
}
