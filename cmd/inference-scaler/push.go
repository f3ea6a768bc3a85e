package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/inference-scaler/inference-scaler/cmd/inference-scaler/listen"
	"github.com/inference-scaler/inference-scaler/metricsource/push"
)

// pushFlags are the flags of reported demand.
type pushFlags struct {
	grpcAddress, httpAddress string
	tokenFile, peers         string
	ttl                      time.Duration
}

// pushing is the store of reported demand with its servers.
type pushing struct {
	flags  pushFlags
	tls    *listen.TLS
	store  *push.Store
	tokens *push.Tokens
	logger *slog.Logger

	grpc, http *listen.Server
}

// newPushing returns nil without tokens and a client CA, because no client could report.
func newPushing(f pushFlags, tls *listen.TLS, reg prometheus.Registerer, logger *slog.Logger) (*pushing, error) {
	if f.tokenFile == "" && !tls.Mutual() {
		logger.Info("demand cannot be reported; wanted: --push-token-file or --tls-client-ca")
		return nil, nil
	}
	if f.ttl < push.MinTimeToLive || f.ttl > push.MaxTimeToLive {
		return nil, fmt.Errorf("--push-ttl: %s; wanted: from %s to %s", f.ttl, push.MinTimeToLive, push.MaxTimeToLive)
	}
	p := &pushing{flags: f, tls: tls, store: push.NewStore(push.Options{TimeToLive: f.ttl, Registerer: reg}), logger: logger}
	if f.tokenFile != "" {
		tokens, err := push.ReadTokens(f.tokenFile, logger)
		if err != nil {
			return nil, fmt.Errorf("--push-token-file: %w", err)
		}
		p.tokens = tokens
	}
	if f.peers != "" {
		host, port, err := net.SplitHostPort(f.peers)
		if _, portErr := strconv.ParseUint(port, 10, 16); err != nil || portErr != nil || host == "" {
			return nil, fmt.Errorf("--push-peers: %q; wanted: host:port of a headless Service, with a port number", f.peers)
		}
		if p.tokens == nil || p.tokens.Peer() == "" {
			return nil, errors.New("--push-peers: --push-token-file has no token for *; wanted: one, with which replicas authenticate to each other")
		}
		if _, err := netip.ParseAddr(os.Getenv("POD_IP")); err != nil {
			return nil, fmt.Errorf("--push-peers: POD_IP: %q; wanted: the IP address of this replica, which forwards no report to itself", os.Getenv("POD_IP"))
		}
	}
	server := push.NewServer(p.store, p.tokens)
	p.grpc = listen.NewGRPC(listen.Options{
		Name: "push-grpc", Flag: "push-grpc-address", Address: f.grpcAddress, TLS: tls, Registerer: reg, Logger: logger,
	}, push.MaxExport, append(server.Options(), grpc.MaxConcurrentStreams(1000))...)
	server.Register(p.grpc.GRPC)
	server.RegisterOTLP(p.grpc.GRPC)
	mux := http.NewServeMux()
	mux.Handle("POST /v1/demand", server)
	mux.HandleFunc("POST /v1/metrics", server.ServeOTLP)
	p.http = listen.NewHTTP(listen.Options{
		Name: "push-http", Flag: "push-http-address", Address: f.httpAddress, TLS: tls, Registerer: reg, Logger: logger,
	}, mux)
	return p, nil
}

// reports is nil without servers.
func (p *pushing) reports() *push.Store {
	if p == nil {
		return nil
	}
	return p.store
}

// servers is empty if no client can report.
func (p *pushing) servers() []*listen.Server {
	if p == nil {
		return nil
	}
	return []*listen.Server{p.grpc, p.http}
}

// run serves until ctx ends. The store runs until sources ends.
func (p *pushing) run(ctx, sources context.Context, g *errgroup.Group) {
	if p == nil {
		return
	}
	g.Go(func() error { return p.store.Run(sources) })
	for _, server := range p.servers() {
		g.Go(server.Serve)
		g.Go(func() error {
			<-ctx.Done()
			return server.Close() // a reporter never ends its stream; it reconnects to another replica
		})
	}
	if p.flags.peers == "" {
		return
	}
	g.Go(func() error {
		host, port, _ := net.SplitHostPort(p.flags.peers) // validated by newPushing
		return p.store.Relay(ctx, push.Peers{
			Host: host, Port: port, Self: os.Getenv("POD_IP"), Token: p.tokens.Peer,
			Credentials: func() credentials.TransportCredentials { return p.tls.Replica(host) }, Logger: p.logger,
		})
	})
}
