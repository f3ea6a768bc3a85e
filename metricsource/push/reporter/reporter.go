package reporter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	demandv1 "github.com/inference-scaler/inference-scaler/proto/demand/v1"
)

const (
	// coalesce is the least time between two reports: the first change is reported at
	// once, the changes after it together.
	coalesce = 20 * time.Millisecond
	// A report is repeated after a third of its time to live.
	timeToLive = 15 * time.Second
	heartbeat  = timeToLive / 3
	// firstRetry and lastRetry bound the pause before a stream is opened anew.
	firstRetry = 100 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// Options of a Reporter.
type Options struct {
	// Address of the scaler, a gRPC target: dns:///inference-scaler.keda.svc:4317.
	Address string
	// Credentials of the connection: those of insecure.NewCredentials, or of TLS.
	Credentials credentials.TransportCredentials
	// Token is the bearer token to show; empty with a client certificate.
	Token string
	// Namespace and Workload name the scale target that the demand is for.
	Namespace, Workload string
	// Instance is unique among the replicas of the API server: the pod's name.
	Instance string
	// Logger gets an entry when a stream breaks; nil discards it.
	Logger *slog.Logger
	// DialOptions are added to those of the connection.
	DialOptions []grpc.DialOption
}

// Reporter counts requests and reports them. Its methods are safe for concurrent use.
type Reporter struct {
	opts    Options
	changed chan struct{} // holds a value when the counts differ from the last report

	mu               sync.Mutex
	queued, inFlight int
	arrived          uint64
	sequence         uint64 // of the last report
}

// New returns a Reporter. It counts at once, and reports while Run runs.
func New(opts Options) (*Reporter, error) {
	for name, value := range map[string]string{
		"Address": opts.Address, "Namespace": opts.Namespace, "Workload": opts.Workload, "Instance": opts.Instance,
	} {
		if value == "" {
			return nil, fmt.Errorf("reporter: %s is missing", name)
		}
	}
	if opts.Credentials == nil {
		return nil, errors.New("reporter: Credentials are missing")
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Reporter{opts: opts, changed: make(chan struct{}, 1)}, nil
}

// count changes the counts.
func (r *Reporter) count(queued, inFlight int, arrived uint64) {
	r.mu.Lock()
	r.queued, r.inFlight, r.arrived = r.queued+queued, r.inFlight+inFlight, r.arrived+arrived
	r.mu.Unlock()
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// Begin counts a request in flight, until end is called.
func (r *Reporter) Begin() (end func()) {
	r.count(0, 1, 1)
	return sync.OnceFunc(func() { r.count(0, -1, 0) })
}

// Wait counts a request that waits for a server, until handed is called.
func (r *Reporter) Wait() (handed func()) {
	r.count(1, 0, 0)
	return sync.OnceFunc(func() { r.count(-1, 0, 0) })
}

// Handler counts the requests to next.
func (r *Reporter) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		defer r.Begin()()
		next.ServeHTTP(w, req)
	})
}

// UnaryServerInterceptor counts the calls of a gRPC server.
func (r *Reporter) UnaryServerInterceptor() grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		defer r.Begin()()
		return handler(ctx, req)
	}
}

// StreamServerInterceptor counts the streams of a gRPC server.
func (r *Reporter) StreamServerInterceptor() grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		defer r.Begin()()
		return handler(srv, stream)
	}
}

// Run reports until ctx ends, and then withdraws its report.
func (r *Reporter) Run(ctx context.Context) error {
	options := append([]grpc.DialOption{
		grpc.WithTransportCredentials(r.opts.Credentials),
		// The connection to a node that died would otherwise be kept for minutes.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`),
	}, r.opts.DialOptions...)
	conn, err := grpc.NewClient(r.opts.Address, options...)
	if err != nil {
		return fmt.Errorf("reporter: %w", err)
	}
	defer func() { _ = conn.Close() }() // the last report has its response
	client, pause := demandv1.NewDemandServiceClient(conn), firstRetry
	for {
		taken, err := r.stream(ctx, client)
		if ctx.Err() != nil {
			return nil
		}
		if taken {
			pause = firstRetry
		}
		r.opts.Logger.Warn("demand cannot be reported", "err", err, "retry", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, lastRetry)
	}
}

// stream reports over one stream until it breaks. taken: a report was accepted.
func (r *Reporter) stream(ctx context.Context, client demandv1.DemandServiceClient) (taken bool, err error) {
	streaming, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	// A report in flight when ctx ends has a second to complete.
	defer context.AfterFunc(ctx, func() { time.AfterFunc(time.Second, cancel) })()
	if r.opts.Token != "" {
		streaming = metadata.AppendToOutgoingContext(streaming, "authorization", "Bearer "+r.opts.Token)
	}
	stream, err := client.Report(streaming)
	if err != nil {
		return false, err
	}
	for {
		if err := r.report(cancel, stream, timeToLive); err != nil {
			return taken, err
		}
		taken = true
		select {
		case <-ctx.Done():
		case <-time.After(coalesce):
			select {
			case <-ctx.Done():
			case <-r.changed:
			case <-time.After(heartbeat):
			}
		}
		if ctx.Err() != nil {
			return taken, r.report(cancel, stream, 0)
		}
	}
}

// report sends the present counts and waits for the response, at most a heartbeat.
func (r *Reporter) report(cancel context.CancelFunc, stream demandv1.DemandService_ReportClient, ttl time.Duration) error {
	late := time.AfterFunc(heartbeat, cancel)
	defer late.Stop()
	if err := stream.Send(r.present(ttl)); err != nil {
		_, err = stream.Recv() // returns the cause
		return err
	}
	answer, err := stream.Recv()
	switch {
	case err != nil:
		return err
	case answer.GetOutcome() != demandv1.Outcome_OUTCOME_TAKEN:
		return fmt.Errorf("%s: %s", answer.GetOutcome(), answer.GetError())
	}
	return nil
}

func (r *Reporter) present(ttl time.Duration) *demandv1.ReportRequest {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sequence = max(r.sequence+1, uint64(time.Now().UnixNano())) // the clock may go back
	return &demandv1.ReportRequest{
		Namespace: r.opts.Namespace, Workload: r.opts.Workload, Instance: r.opts.Instance,
		Sequence:   r.sequence,
		TimeToLive: durationpb.New(ttl),
		Samples: []*demandv1.Sample{
			{Name: "demand_queued_requests", Value: float64(r.queued)},
			{Name: "demand_inflight_requests", Value: float64(r.inFlight)},
			{Name: "demand_requests_total", Value: float64(r.arrived)},
		},
	}
}
