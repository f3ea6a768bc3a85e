package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/inference-scaler/inference-scaler/metricsource/push"
)

// pushFlags say where demand may be reported, and by whom.
type pushFlags struct {
	grpcAddress, httpAddress string
	tokenFile, peers         string
}

// pushing is what takes reports of demand.
type pushing struct {
	flags  pushFlags
	tls    serverTLS
	store  *push.Store
	tokens *push.Tokens
	logger *slog.Logger

	grpc                       *grpc.Server
	http                       *http.Server
	grpcListener, httpListener net.Listener
}

// newPushing returns nil where nobody could report: there is no token, and no CA
// for certificates.
func newPushing(f pushFlags, tls serverTLS, reg prometheus.Registerer, logger *slog.Logger) (*pushing, error) {
	if f.tokenFile == "" && !tls.mutual() {
		logger.Info("no demand can be reported: there is neither --push-token-file nor --tls-client-ca")
		return nil, nil
	}
	p := &pushing{flags: f, tls: tls, store: push.NewStore(reg), logger: logger}
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
			return nil, fmt.Errorf("--push-peers: %q; wanted: host:port of a headless Service, the port a number", f.peers)
		}
		if p.tokens == nil || p.tokens.Peer() == "" {
			return nil, errors.New("--push-peers: wanted in --push-token-file: a token for *, by which the replicas know each other")
		}
		if _, err := netip.ParseAddr(os.Getenv("POD_IP")); err != nil {
			return nil, fmt.Errorf("--push-peers: wanted in POD_IP: the address of this replica, which passes no report on to itself: %q", os.Getenv("POD_IP"))
		}
	}
	server := push.NewServer(p.store, p.tokens)
	p.grpc = grpc.NewServer(slices.Concat(grpcOptions(tls.server(), push.MaxExport, logger), server.Options(), []grpc.ServerOption{grpc.MaxConcurrentStreams(1000)})...)
	server.Register(p.grpc)
	server.RegisterOTLP(p.grpc)
	mux := http.NewServeMux()
	mux.Handle("POST /v1/demand", server)
	mux.HandleFunc("POST /v1/metrics", server.ServeOTLP)
	p.http = &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 16 << 10,
	}
	return p, nil
}

// reports is nil where there are none.
func (p *pushing) reports() *push.Store {
	if p == nil {
		return nil
	}
	return p.store
}

func (p *pushing) listen() error {
	if p == nil {
		return nil
	}
	var err error
	if p.grpcListener, err = net.Listen("tcp", p.flags.grpcAddress); err != nil {
		return fmt.Errorf("--push-grpc-address: %w", err)
	}
	if p.httpListener, err = net.Listen("tcp", p.flags.httpAddress); err != nil {
		return errors.Join(fmt.Errorf("--push-http-address: %w", err), p.grpcListener.Close())
	}
	if cfg := p.tls.config("http/1.1"); cfg != nil {
		p.httpListener = tls.NewListener(p.httpListener, cfg)
	}
	p.logger.Info("listening", "listener", "push-grpc", "address", p.grpcListener.Addr().String())
	p.logger.Info("listening", "listener", "push-http", "address", p.httpListener.Addr().String())
	return nil
}

// run serves until ctx ends; the store works on until working does.
func (p *pushing) run(ctx, working context.Context, g *errgroup.Group) {
	if p == nil {
		return
	}
	g.Go(func() error { return p.store.Run(working) })
	g.Go(func() error { return p.grpc.Serve(p.grpcListener) })
	g.Go(func() error {
		if err := p.http.Serve(p.httpListener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		p.grpc.Stop() // its streams never end by themselves; reporters come back to another replica
		return p.http.Close()
	})
	if p.flags.peers == "" {
		return
	}
	g.Go(func() error {
		host, port, _ := net.SplitHostPort(p.flags.peers) // checked before
		return p.store.Relay(ctx, push.Peers{
			Host: host, Port: port, Self: os.Getenv("POD_IP"), Token: p.tokens.Peer,
			Credentials: func() credentials.TransportCredentials { return p.tls.replica(host) }, Logger: p.logger,
		})
	})
}
