package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"time"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	"github.com/inference-scaler/inference-scaler/cmd/inference-scaler/listen"
	"github.com/inference-scaler/inference-scaler/metricsource/kubernetes"
	"github.com/inference-scaler/inference-scaler/metricsource/kubernetes/events"
	"github.com/inference-scaler/inference-scaler/metricsource/kubernetes/lease"
	promsource "github.com/inference-scaler/inference-scaler/metricsource/prometheus"
	"github.com/inference-scaler/inference-scaler/metricsource/push"
	"github.com/inference-scaler/inference-scaler/metricsource/scrape"
	"github.com/inference-scaler/inference-scaler/scaler"
	"github.com/inference-scaler/inference-scaler/scaler/evaluator"
)

const (
	// stopTimeout limits a graceful stop. Kubernetes kills the process after 30 s by default.
	stopTimeout = 15 * time.Second
	// readinessPeriod is the period of readiness checks until the scaler is ready.
	readinessPeriod = 100 * time.Millisecond

	// maxMessage is in bytes, and larger than all valid metadata of a trigger.
	maxMessage = 128 << 10
	// leaseName is the name of the Lease that elects the replica which writes events.
	leaseName = "inference-scaler-events"

	namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
)

// namespaceName matches a DNS label, as Kubernetes requires.
var namespaceName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// serveFlags are the flags of serve.
type serveFlags struct {
	grpcAddress, httpAddress     string
	kubernetes, kubeconfig       string
	namespaces, upstreamAllow    []string
	nodeAutoscaler               string
	tlsCert, tlsKey, tlsClientCA string
	logLevel, logFormat          string
	push                         pushFlags
}

func serveCommand() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the scaler",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.validate(cmd.Flags().Changed); err != nil {
				return err
			}
			return serve(cmd.Context(), f)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&f.grpcAddress, "grpc-address", ":9090", "address of the gRPC listener for KEDA")
	fs.StringVar(&f.httpAddress, "http-address", ":8080", "address of the HTTP listener for /metrics, /healthz, /readyz and /api/v1")
	fs.StringVar(&f.kubernetes, "kubernetes", "auto", "auto: use the cluster of this pod, or of --kubeconfig; off: triggers can only read their endpoints and the URLs of their upstream")
	fs.StringVar(&f.kubeconfig, "kubeconfig", os.Getenv("KUBECONFIG"), "path of a kubeconfig file, for use outside a pod")
	fs.StringSliceVar(&f.namespaces, "namespaces", nil, "namespaces to watch, separated by commas (default all)")
	fs.StringSliceVar(&f.upstreamAllow, "upstream-allow", nil, "IP addresses or CIDRs that triggers may read in addition to their own pods")
	fs.StringVar(&f.nodeAutoscaler, "node-autoscaler", "auto", "auto: detect node autoscalers in the cluster; none: assume that the number of nodes is fixed")
	fs.StringVar(&f.tlsCert, "tls-cert", "", "PEM file with the certificate of the listeners for KEDA and for reports; reloaded after a change")
	fs.StringVar(&f.tlsKey, "tls-key", "", "PEM file with the key of --tls-cert")
	fs.StringVar(&f.tlsClientCA, "tls-client-ca", "", "PEM file with the CA certificates for client certificates, which are then required")
	fs.StringVar(&f.push.grpcAddress, "push-grpc-address", ":4317", "address of the gRPC listener for reported demand (demand.v1 and OTLP metrics); clients need a token or a certificate")
	fs.StringVar(&f.push.httpAddress, "push-http-address", ":4318", "address of the HTTP listener for reported demand: POST /v1/demand (JSON) and POST /v1/metrics (OTLP)")
	fs.StringVar(&f.push.tokenFile, "push-token-file", "", "file with the tokens of clients that report demand, each with its namespaces; reloaded after a change")
	fs.StringVar(&f.push.peers, "push-peers", "", "host:port of a headless Service of the scaler's replicas, which forward reports to each other; needs POD_IP")
	fs.DurationVar(&f.push.ttl, "push-ttl", push.DefaultTimeToLive, "time to live of a series that is received as OTLP: at least 2.5 export intervals of its exporter")
	fs.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	fs.StringVar(&f.logFormat, "log-format", "text", "text or json")
	return cmd
}

// validate rejects flags that have no effect with the others.
func (f *serveFlags) validate(given func(flag string) bool) error {
	var errs []error
	reject := func(condition string, flags ...string) {
		for _, flag := range flags {
			if given(flag) {
				errs = append(errs, fmt.Errorf("--%s has no effect %s", flag, condition))
			}
		}
	}
	if f.kubernetes == "off" {
		reject("with --kubernetes=off", "namespaces", "kubeconfig", "upstream-allow")
		if f.nodeAutoscaler != "auto" {
			reject("with --kubernetes=off", "node-autoscaler")
		}
	}
	if f.push.tokenFile == "" && f.tlsClientCA == "" {
		reject("without --push-token-file or --tls-client-ca", "push-grpc-address", "push-http-address", "push-peers", "push-ttl")
	}
	return errors.Join(errs...)
}

func serve(ctx context.Context, f serveFlags) error {
	logger, err := newLogger(f.logLevel, f.logFormat)
	if err != nil {
		return err
	}
	allow, err := prefixes(f.upstreamAllow)
	if err != nil {
		return err
	}
	tls, err := listen.NewTLS(f.tlsCert, f.tlsKey, f.tlsClientCA, logger)
	if err != nil {
		return err
	}
	cluster, writer, recorder, err := connect(f, logger)
	if err != nil {
		return err
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	pushed, err := newPushing(f.push, tls, reg, logger)
	if err != nil {
		return err
	}
	opts := evaluator.Options{
		Reports:    pushed.reports(),
		Scraper:    scrape.New(scrape.Options{Registerer: reg, Logger: logger}),
		Prometheus: promsource.New(promsource.Options{Registerer: reg}),
		Allow:      allow,
		FixedNodes: f.nodeAutoscaler == "none",
		Registerer: reg,
		Logger:     logger,
	}
	useCluster(&opts, cluster, recorder)
	e := evaluator.New(opts)
	s := scaler.New(e)
	healthy := health.NewServer()
	grpcServer := newGRPCServer(f, tls, s, healthy, reg, logger)
	httpServer := newHTTPServer(f, s, e, reg, logger)
	if err := listen.Open(append(pushed.servers(), grpcServer, httpServer)...); err != nil {
		return err
	}

	// The sources stop after the servers, because calls use them.
	g, ctx := errgroup.WithContext(ctx)
	sources, stopSources := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSources()
	g.Go(func() error { return opts.Scraper.Run(sources) })
	g.Go(func() error { return opts.Prometheus.Run(sources) })
	g.Go(func() error { return e.Run(sources) })
	pushed.run(ctx, sources, g)
	if cluster != nil {
		g.Go(func() error { return cluster.Run(sources, e.Changed, e.InventoryChanged) })
	}
	if recorder != nil {
		g.Go(func() error { return writer.Run(sources) })
		g.Go(func() error { return recorder.Run(sources) })
	}
	g.Go(grpcServer.Serve)
	g.Go(httpServer.Serve)
	g.Go(func() error { return announce(ctx, e, healthy, logger) })
	g.Go(func() error {
		<-ctx.Done()
		logger.Info("stopping")
		healthy.Shutdown()
		s.CloseStreams()
		_ = grpcServer.Stop(stopTimeout) // always nil: after stopTimeout, it ends the calls
		stopSources()
		return httpServer.Stop(stopTimeout)
	})
	return wait(g, ctx, logger)
}

// useCluster sets the interfaces of opts, and keeps them nil instead of a nil pointer.
func useCluster(opts *evaluator.Options, cluster *kubernetes.Cluster, recorder *events.Recorder) {
	if cluster != nil {
		opts.Cluster, opts.Secrets = cluster, cluster
	}
	if recorder != nil {
		opts.Recorder = recorder
	}
}

// newGRPCServer returns the server for KEDA.
func newGRPCServer(f serveFlags, tls *listen.TLS, s *scaler.Scaler, healthy *health.Server, reg prometheus.Registerer, logger *slog.Logger) *listen.Server {
	calls := grpcprom.NewServerMetrics(grpcprom.WithServerHandlingTimeHistogram())
	reg.MustRegister(calls)
	server := listen.NewGRPC(listen.Options{Name: "grpc", Flag: "grpc-address", Address: f.grpcAddress, TLS: tls, Registerer: reg, Logger: logger}, maxMessage,
		grpc.ChainUnaryInterceptor(calls.UnaryServerInterceptor()), grpc.ChainStreamInterceptor(calls.StreamServerInterceptor()))
	s.Register(server.GRPC)
	healthpb.RegisterHealthServer(server.GRPC, healthy)
	reflection.Register(server.GRPC)
	calls.InitializeMetrics(server.GRPC)
	return server
}

// newHTTPServer returns the server for metrics, probes and explanations. It is plaintext, because
// Prometheus and the kubelet have no client certificate.
func newHTTPServer(f serveFlags, s *scaler.Scaler, e *evaluator.Evaluator, reg *prometheus.Registry, logger *slog.Logger) *listen.Server {
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
	return listen.NewHTTP(listen.Options{Name: "http", Flag: "http-address", Address: f.httpAddress, Registerer: reg, Logger: logger}, mux)
}

// wait waits for all goroutines, and after a stop for at most twice stopTimeout. client-go may wait
// for an unreachable API server, which must not delay a rollout.
func wait(g *errgroup.Group, ctx context.Context, logger *slog.Logger) error {
	ended := make(chan error, 1)
	go func() { ended <- g.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-ended:
		return err
	case <-time.After(2 * stopTimeout):
		logger.Warn("some goroutines did not stop in time", "timeout", (2 * stopTimeout).String())
		return nil
	}
}

// connect returns the cluster, or nil with --kubernetes=off. The Lease, which elects the replica
// that writes events, and the Recorder are nil if the own namespace is unknown.
func connect(f serveFlags, logger *slog.Logger) (*kubernetes.Cluster, *lease.Lease, *events.Recorder, error) {
	if f.nodeAutoscaler != "auto" && f.nodeAutoscaler != "none" {
		return nil, nil, nil, fmt.Errorf("--node-autoscaler: %q; wanted: auto or none", f.nodeAutoscaler)
	}
	for _, name := range f.namespaces {
		if !namespaceName.MatchString(name) {
			return nil, nil, nil, fmt.Errorf("--namespaces: %q; wanted: names of namespaces, separated by commas", name)
		}
	}
	switch f.kubernetes {
	case "off":
		return nil, nil, nil, nil
	case "auto":
	default:
		return nil, nil, nil, fmt.Errorf("--kubernetes: %q; wanted: auto or off", f.kubernetes)
	}
	cfg, err := kubernetes.Config(f.kubeconfig)
	if errors.Is(err, kubernetes.ErrNoCluster) {
		return nil, nil, nil, fmt.Errorf("%w; wanted: --kubeconfig, or --kubernetes=off to read only endpoints", err)
	}
	if err != nil {
		return nil, nil, nil, err
	}
	cluster, err := kubernetes.New(cfg, kubernetes.Options{Namespaces: f.namespaces, Logger: logger})
	if err != nil {
		return nil, nil, nil, err
	}
	namespace := ownNamespace()
	if namespace == "" {
		logger.Info("events are disabled: the namespace of their Lease is unknown; wanted: POD_NAMESPACE, or a pod")
		return cluster, nil, nil, nil
	}
	identity, err := ownName()
	if err != nil {
		return nil, nil, nil, err
	}
	writer, err := lease.New(cluster.Client(), lease.Options{Namespace: namespace, Name: leaseName, Identity: identity, Logger: logger})
	if err != nil {
		return nil, nil, nil, err
	}
	return cluster, writer, events.New(cluster.Client(), writer, cluster.UID, logger), nil
}

// ownName identifies this replica. The host name is the pod's name, except with hostNetwork.
func ownName() (string, error) {
	if name := os.Getenv("POD_NAME"); name != "" {
		return name, nil
	}
	return os.Hostname()
}

func ownNamespace() string {
	if ns := os.Getenv("POD_NAMESPACE"); ns != "" {
		return ns
	}
	ns, err := os.ReadFile(namespaceFile)
	if err != nil {
		return "" // outside a pod
	}
	return strings.TrimSpace(string(ns))
}

// announce sets the status of gRPC's health service once the scaler is ready.
func announce(ctx context.Context, e *evaluator.Evaluator, healthy *health.Server, logger *slog.Logger) error {
	healthy.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	start := time.Now()
	ticker := time.NewTicker(readinessPeriod)
	defer ticker.Stop()
	for {
		if e.Ready() == nil {
			healthy.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
			logger.Info("ready", "after", time.Since(start).Round(time.Millisecond).String())
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func prefixes(list []string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	var errs []error
	for _, text := range list {
		p, err := netip.ParsePrefix(text)
		if addr, addrErr := netip.ParseAddr(text); addrErr == nil {
			p, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("--upstream-allow: %q; wanted: an address or a CIDR such as 10.0.0.0/8", text))
			continue
		}
		all = append(all, p.Masked())
	}
	return all, errors.Join(errs...)
}

func newLogger(level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level: %q; wanted: debug, info, warn or error", level)
	}
	opts := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(os.Stderr, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(os.Stderr, opts)), nil
	default:
		return nil, fmt.Errorf("--log-format: %q; wanted: text or json", format)
	}
}
