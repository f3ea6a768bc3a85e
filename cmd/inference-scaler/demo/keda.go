package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/inference-scaler/inference-scaler/metricsource/schedule"
	"github.com/inference-scaler/inference-scaler/scaler/hpa"
)

// KEDAOptions of a [KEDA]. Durations are real time.
type KEDAOptions struct {
	Poll time.Duration // pollingInterval; default 30 s
	// Retry is the first backoff before a stream is opened again. It doubles up to RetryMax.
	// The defaults are KEDA's: 2 s and 60 s.
	Retry, RetryMax time.Duration
	// Timeout limits each call; default 5 s. KEDA has no timeout and would hang.
	Timeout time.Duration
	// OnActive receives the messages of StreamIsActive, one at a time. It has to scale the
	// workload from zero.
	OnActive func(active bool)
	// OnPoll receives the result of each successful poll.
	OnPoll func(active bool)
	Logger *slog.Logger // default: none
}

// KEDA models KEDA and its metrics server for one external-push trigger. The calls and their order
// are those of KEDA 2.21. The scaler cache, ScaledJobs and fallback are not modelled.
type KEDA struct {
	client pb.ExternalScalerClient
	ref    *pb.ScaledObjectRef
	o      KEDAOptions
	// spec is the HPA's metric. Only a reconciliation and the spec stream change it. Other
	// responses to GetMetricSpec do not.
	spec atomic.Pointer[Spec]
}

// Spec is the metric of an HPA.
type Spec struct {
	Name        string
	TargetMilli int64 // thousandths
}

// Answer is the scaler's response to one query of the HPA.
type Answer struct {
	ValueMilli, TargetMilli int64 // thousandths
	Active                  bool
}

var errNoHPA = errors.New("no HPA yet: GetMetricSpec has not succeeded")

// NewKEDA returns a KEDA for one trigger. [KEDA.Run] makes the first call.
func NewKEDA(conn grpc.ClientConnInterface, ref *pb.ScaledObjectRef, o KEDAOptions) *KEDA {
	setDefault(&o.Poll, 30*time.Second)
	setDefault(&o.Retry, 2*time.Second)
	setDefault(&o.RetryMax, time.Minute)
	setDefault(&o.Timeout, 5*time.Second)
	if o.OnActive == nil {
		o.OnActive = func(bool) {}
	}
	if o.OnPoll == nil {
		o.OnPoll = func(bool) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &KEDA{client: pb.NewExternalScalerClient(conn), ref: ref, o: o}
}

func setDefault(d *time.Duration, value time.Duration) {
	if *d <= 0 {
		*d = value
	}
}

// Run reconciles until the scaler returns a metric spec. It then keeps both streams open and
// polls, until ctx ends. It logs errors of the scaler and repeats the call.
func (k *KEDA) Run(ctx context.Context) error {
	if !k.reconcile(ctx) {
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { k.keepOpen(ctx, "StreamIsActive", k.streamActive); return nil })
	g.Go(func() error { k.keepOpen(ctx, "StreamMetricSpec", k.streamSpec); return nil })
	g.Go(func() error { k.poll(ctx); return nil })
	return g.Wait()
}

// Spec returns the HPA's metric; ok is false before KEDA has reconciled.
func (k *KEDA) Spec() (spec Spec, ok bool) {
	if s := k.spec.Load(); s != nil {
		return *s, true
	}
	return Spec{}, false
}

// Query makes the calls of one query of the HPA: GetMetricSpec, GetMetrics and IsActive. After an
// error, the HPA keeps the replicas.
func (k *KEDA) Query(ctx context.Context) (Answer, error) {
	current, ok := k.Spec()
	if !ok {
		return Answer{}, errNoHPA
	}
	ctx, cancel := context.WithTimeout(ctx, k.o.Timeout)
	defer cancel()
	fresh, err := k.getSpec(ctx)
	if err != nil {
		return Answer{}, err
	}
	value, err := k.value(ctx, fresh.Name)
	if err != nil {
		return Answer{}, err
	}
	active, err := k.client.IsActive(ctx, k.ref)
	if err != nil {
		return Answer{}, fmt.Errorf("IsActive: %w", err)
	}
	return Answer{ValueMilli: value, TargetMilli: current.TargetMilli, Active: active.GetResult()}, nil
}

// Value returns the metric's value and the HPA's target, in thousandths. It is only for display:
// KEDA never calls GetMetrics alone.
func (k *KEDA) Value(ctx context.Context) (valueMilli, targetMilli int64, err error) {
	current, ok := k.Spec()
	if !ok {
		return 0, 0, errNoHPA
	}
	ctx, cancel := context.WithTimeout(ctx, k.o.Timeout)
	defer cancel()
	valueMilli, err = k.value(ctx, current.Name)
	return valueMilli, current.TargetMilli, err
}

// reconcile repeats GetMetricSpec until it succeeds. It reports false if ctx ends first. Without a
// spec, KEDA creates no HPA and opens no stream.
func (k *KEDA) reconcile(ctx context.Context) bool {
	backoff := 5 * time.Millisecond // the first backoff of controller-runtime
	for {
		callCtx, cancel := context.WithTimeout(ctx, k.o.Timeout)
		spec, err := k.getSpec(callCtx)
		cancel()
		if err == nil {
			k.spec.Store(&spec)
			return true
		}
		k.o.Logger.Warn("KEDA: reconciliation failed", "error", err, "retry", backoff)
		if !schedule.Sleep(ctx, backoff) {
			return false
		}
		backoff = min(2*backoff, k.o.RetryMax)
	}
}

func (k *KEDA) getSpec(ctx context.Context) (Spec, error) {
	r, err := k.client.GetMetricSpec(ctx, k.ref)
	if err != nil {
		return Spec{}, fmt.Errorf("GetMetricSpec: %w", err)
	}
	return specOf(r)
}

// specOf returns the first metric. This scaler has one metric per trigger.
func specOf(r *pb.GetMetricSpecResponse) (Spec, error) {
	if len(r.GetMetricSpecs()) == 0 {
		return Spec{}, errors.New("GetMetricSpec: no metric")
	}
	m := r.GetMetricSpecs()[0]
	spec := Spec{Name: m.GetMetricName(), TargetMilli: 1000 * m.GetTargetSize()}
	if m.GetTargetSizeFloat() > 0 {
		spec.TargetMilli = hpa.Milli(m.GetTargetSizeFloat())
	}
	if spec.TargetMilli <= 0 {
		return Spec{}, fmt.Errorf("GetMetricSpec: metric %q: target %d/1000; wanted: a target above 0", spec.Name, spec.TargetMilli)
	}
	return spec, nil
}

// value sums the values of GetMetrics, as the HPA does.
func (k *KEDA) value(ctx context.Context, metric string) (int64, error) {
	r, err := k.client.GetMetrics(ctx, &pb.GetMetricsRequest{ScaledObjectRef: k.ref, MetricName: metric})
	if err != nil {
		return 0, fmt.Errorf("GetMetrics: %w", err)
	}
	if len(r.GetMetricValues()) == 0 {
		return 0, fmt.Errorf("GetMetrics: no value for %q", metric)
	}
	var sum int64
	for _, v := range r.GetMetricValues() {
		number := float64(v.GetMetricValue())
		if v.GetMetricValueFloat() > 0 {
			number = v.GetMetricValueFloat()
		}
		sum += hpa.Milli(number)
	}
	return sum, nil
}

// poll is KEDA's scale loop.
func (k *KEDA) poll(ctx context.Context) {
	for {
		switch a, err := k.Query(ctx); {
		case err == nil:
			k.o.OnPoll(a.Active)
		case ctx.Err() == nil:
			k.o.Logger.Warn("KEDA: poll failed", "error", err)
		}
		if !schedule.Sleep(ctx, k.o.Poll) {
			return
		}
	}
}

// errUnimplemented ends a stream permanently.
var errUnimplemented = errors.New("not implemented by the scaler")

// keepOpen opens a stream again whenever it ends. The backoff doubles, and an end with reset resets
// it.
func (k *KEDA) keepOpen(ctx context.Context, name string, stream func(context.Context) (reset bool, err error)) {
	backoff := k.o.Retry
	for {
		reset, err := stream(ctx)
		if ctx.Err() != nil || errors.Is(err, errUnimplemented) {
			return
		}
		if reset {
			backoff = k.o.Retry
		}
		k.o.Logger.Info("KEDA: stream ended", "stream", name, "error", err, "retry", backoff)
		if !schedule.Sleep(ctx, backoff) {
			return
		}
		backoff = min(2*backoff, k.o.RetryMax)
	}
}

// streamActive reads one StreamIsActive. Only a clean end resets the backoff.
func (k *KEDA) streamActive(ctx context.Context) (reset bool, err error) {
	stream, err := k.client.StreamIsActive(ctx, k.ref)
	if err != nil {
		return false, fmt.Errorf("StreamIsActive: %w", err)
	}
	for {
		r, err := stream.Recv()
		if err != nil {
			return errors.Is(err, io.EOF), fmt.Errorf("StreamIsActive: %w", err)
		}
		k.o.OnActive(r.GetResult())
	}
}

// streamSpec reads one StreamMetricSpec. A clean end, or an end after a message, resets the
// backoff.
func (k *KEDA) streamSpec(ctx context.Context) (reset bool, err error) {
	stream, err := k.client.StreamMetricSpec(ctx, k.ref)
	if err != nil {
		return false, fmt.Errorf("StreamMetricSpec: %w", err)
	}
	for {
		r, err := stream.Recv()
		switch {
		case status.Code(err) == codes.Unimplemented:
			return false, errUnimplemented
		case err != nil:
			return reset || errors.Is(err, io.EOF), fmt.Errorf("StreamMetricSpec: %w", err)
		}
		reset = true
		if spec, err := specOf(r); err != nil {
			k.o.Logger.Warn("KEDA: streamed spec ignored", "error", err)
		} else {
			k.spec.Store(&spec)
		}
	}
}
