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
	// stopWithin bounds a graceful stop; Kubernetes kills after 30 s by default.
	stopWithin = 15 * time.Second
	// readyProbe is the period of readiness checks until the scaler is ready.
	readyProbe = 100 * time.Millisecond

	// maxMessage is more than any metadata that a trigger accepts, in bytes.
	maxMessage = 128 << 10
	// leaseName is the Lease of the replica that writes events.
	leaseName = "inference-scaler-events"

	namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
)

// namespaceName is a DNS label, as Kubernetes requires.
var namespaceName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// serveFlags mirror the command line.
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
		Short: "Answer KEDA",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.idle(cmd.Flags().Changed); err != nil {
				return err
			}
			return serve(cmd.Context(), f)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&f.grpcAddress, "grpc-address", ":9090", "where KEDA calls")
	fs.StringVar(&f.httpAddress, "http-address", ":8080", "where /metrics, /healthz, /readyz and /api/v1 are served")
	fs.StringVar(&f.kubernetes, "kubernetes", "auto", "auto: the cluster of this pod, or of --kubeconfig; off: triggers read their endpoints, and the URLs of their upstream, alone")
	fs.StringVar(&f.kubeconfig, "kubeconfig", os.Getenv("KUBECONFIG"), "the cluster's kubeconfig, outside a pod")
	fs.StringSliceVar(&f.namespaces, "namespaces", nil, "namespaces to watch (default all)")
	fs.StringSliceVar(&f.upstreamAllow, "upstream-allow", nil, "addresses (CIDR) that metadata may name though they are no pods of the workload")
	fs.StringVar(&f.nodeAutoscaler, "node-autoscaler", "auto", "auto: what the cluster shows; none: nothing adds nodes, whatever the cluster looks like")
	fs.StringVar(&f.tlsCert, "tls-cert", "", "certificate of the listeners for KEDA and for reports, PEM; read again when it changes")
	fs.StringVar(&f.tlsKey, "tls-key", "", "its key")
	fs.StringVar(&f.tlsClientCA, "tls-client-ca", "", "callers must show a certificate of this CA")
	fs.StringVar(&f.push.grpcAddress, "push-grpc-address", ":4317", "where demand is reported over gRPC (demand.v1 and OTLP metrics), by callers with a token or a client certificate")
	fs.StringVar(&f.push.httpAddress, "push-http-address", ":4318", "where it is reported over HTTP: POST /v1/demand (JSON) and /v1/metrics (OTLP)")
	fs.StringVar(&f.push.tokenFile, "push-token-file", "", "tokens that may report, each with its namespaces; read again when it changes")
	fs.StringVar(&f.push.peers, "push-peers", "", "host:port of a headless Service of this scaler's replicas, which forward reports to each other; needs POD_IP")
	fs.DurationVar(&f.push.ttl, "push-ttl", push.DefaultTimeToLive, "time to live of a series that is received as OTLP: at least 2.5 export intervals of its exporter")
	fs.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	fs.StringVar(&f.logFormat, "log-format", "text", "text or json")
	return cmd
}

// idle refuses flags that have no effect with the others.
func (f *serveFlags) idle(given func(flag string) bool) error {
	var errs []error
	refuse := func(where string, flags ...string) {
		for _, flag := range flags {
			if given(flag) {
				errs = append(errs, fmt.Errorf("--%s: means nothing %s", flag, where))
			}
		}
	}
	if f.kubernetes == "off" {
		refuse("with --kubernetes=off", "namespaces", "kubeconfig", "upstream-allow")
		if f.nodeAutoscaler != "auto" {
			refuse("with --kubernetes=off", "node-autoscaler")
		}
	}
	if f.push.tokenFile == "" && f.tlsClientCA == "" {
		refuse("without --push-token-file or --tls-client-ca", "push-grpc-address", "push-http-address", "push-peers", "push-ttl")
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

	// The sources outlive the calls that use them.
	g, ctx := errgroup.WithContext(ctx)
	working, stopWorking := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWorking()
	g.Go(func() error { return opts.Scraper.Run(working) })
	g.Go(func() error { return opts.Prometheus.Run(working) })
	g.Go(func() error { return e.Run(working) })
	pushed.run(ctx, working, g)
	if cluster != nil {
		g.Go(func() error { return cluster.Run(working, e.Changed, e.InventoryChanged) })
	}
	if recorder != nil {
		g.Go(func() error { return writer.Run(working) })
		g.Go(func() error { return recorder.Run(working) })
	}
	g.Go(grpcServer.Serve)
	g.Go(httpServer.Serve)
	g.Go(func() error { return announce(ctx, e, healthy, logger) })
	g.Go(func() error {
		<-ctx.Done()
		logger.Info("stopping")
		healthy.Shutdown()
		s.CloseStreams()
		_ = grpcServer.Stop(stopWithin) // it has no error: after stopWithin, it ends the calls
		stopWorking()
		return httpServer.Stop(stopWithin)
	})
	return await(g, ctx, logger)
}

// useCluster leaves an interface nil, instead of one that holds a nil pointer.
func useCluster(opts *evaluator.Options, cluster *kubernetes.Cluster, recorder *events.Recorder) {
	if cluster != nil {
		opts.Cluster, opts.Secrets = cluster, cluster
	}
	if recorder != nil {
		opts.Recorder = recorder
	}
}

// newGRPCServer serves KEDA.
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

// newHTTPServer serves metrics, probes and explanations, in plaintext: Prometheus and the
// kubelet have no certificate.
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

// await waits for all goroutines, but after a stop no longer than twice stopWithin: client-go
// may wait for an unreachable API server, and must not delay a rollout.
func await(g *errgroup.Group, ctx context.Context, logger *slog.Logger) error {
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
	case <-time.After(2 * stopWithin):
		logger.Warn("not everything stopped in time")
		return nil
	}
}

// connect prepares what reads and writes the cluster: nothing with --kubernetes=off. The
// Lease, which elects the replica that writes, and the Recorder need a namespace.
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
		return nil, nil, nil, fmt.Errorf("%w; give --kubeconfig, or --kubernetes=off to read endpoints alone", err)
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
		logger.Info("no events are written: this is no pod, and POD_NAMESPACE does not say where the lease for them would be")
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
		return "" // not in a pod
	}
	return strings.TrimSpace(string(ns))
}

// announce sets the status of gRPC's health service once the scaler is ready.
func announce(ctx context.Context, e *evaluator.Evaluator, healthy *health.Server, logger *slog.Logger) error {
	healthy.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	begun := time.Now()
	probe := time.NewTicker(readyProbe)
	defer probe.Stop()
	for {
		if e.Ready() == nil {
			healthy.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
			logger.Info("ready", "after", time.Since(begun).Round(time.Millisecond).String())
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-probe.C:
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
