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
	// Retry is the first pause before a stream is opened again; it doubles up to RetryMax.
	// The defaults are KEDA's: 2 s and 60 s.
	Retry, RetryMax time.Duration
	// Timeout bounds each call. Default 5 s. KEDA has none, and would hang.
	Timeout time.Duration
	// OnActive gets the messages of StreamIsActive, one at a time. Scaling from zero is the
	// caller's part.
	OnActive func(active bool)
	// OnPoll gets the result of each poll that succeeds.
	OnPoll func(active bool)
	Logger *slog.Logger // default: none
}

// KEDA models KEDA and its metrics server, as the client of an external-push trigger. Its calls
// and their order are those of KEDA 2.21. The scaler cache, ScaledJobs and fallback are not
// modelled.
type KEDA struct {
	client pb.ExternalScalerClient
	ref    *pb.ScaledObjectRef
	o      KEDAOptions
	// spec is the HPA's metric. A reconciliation and the spec stream change it; an answer to
	// GetMetricSpec alone does not.
	spec atomic.Pointer[Spec]
}

// Spec is the metric of an HPA.
type Spec struct {
	Name        string
	TargetMilli int64 // thousandths
}

// Answer is the scaler's answer to one query of the HPA.
type Answer struct {
	ValueMilli, TargetMilli int64 // thousandths
	Active                  bool
}

var errNoHPA = errors.New("there is no HPA yet: the scaler has named no metric")

// NewKEDA returns KEDA for one trigger. [KEDA.Run] makes the first call.
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

// Run reconciles, which needs a metric spec. It then keeps both streams open and polls, until
// ctx ends. Errors of the scaler are logged, and the call is repeated.
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

// Spec is the HPA's metric; ok is false before KEDA has reconciled.
func (k *KEDA) Spec() (spec Spec, ok bool) {
	if s := k.spec.Load(); s != nil {
		return *s, true
	}
	return Spec{}, false
}

// Query makes the calls that one query of the HPA causes: GetMetricSpec, GetMetrics, then
// IsActive. After an error, the HPA keeps the replicas.
func (k *KEDA) Query(ctx context.Context) (Answer, error) {
	told, ok := k.Spec()
	if !ok {
		return Answer{}, errNoHPA
	}
	ctx, cancel := context.WithTimeout(ctx, k.o.Timeout)
	defer cancel()
	asked, err := k.getSpec(ctx)
	if err != nil {
		return Answer{}, err
	}
	value, err := k.value(ctx, asked.Name)
	if err != nil {
		return Answer{}, err
	}
	active, err := k.client.IsActive(ctx, k.ref)
	if err != nil {
		return Answer{}, fmt.Errorf("IsActive: %w", err)
	}
	return Answer{ValueMilli: value, TargetMilli: told.TargetMilli, Active: active.GetResult()}, nil
}

// Value returns the metric's value and the HPA's target, in thousandths. It is for display:
// KEDA never calls GetMetrics alone.
func (k *KEDA) Value(ctx context.Context) (valueMilli, targetMilli int64, err error) {
	told, ok := k.Spec()
	if !ok {
		return 0, 0, errNoHPA
	}
	ctx, cancel := context.WithTimeout(ctx, k.o.Timeout)
	defer cancel()
	valueMilli, err = k.value(ctx, told.Name)
	return valueMilli, told.TargetMilli, err
}

// reconcile repeats GetMetricSpec until it succeeds; it reports false if ctx ends first.
// Without a spec, KEDA creates no HPA and opens no stream.
func (k *KEDA) reconcile(ctx context.Context) bool {
	pause := 5 * time.Millisecond // controller-runtime's first
	for {
		callCtx, cancel := context.WithTimeout(ctx, k.o.Timeout)
		spec, err := k.getSpec(callCtx)
		cancel()
		if err == nil {
			k.spec.Store(&spec)
			return true
		}
		k.o.Logger.Warn("KEDA cannot reconcile", "error", err, "retry", pause)
		if !schedule.Sleep(ctx, pause) {
			return false
		}
		pause = min(2*pause, k.o.RetryMax)
	}
}

func (k *KEDA) getSpec(ctx context.Context) (Spec, error) {
	r, err := k.client.GetMetricSpec(ctx, k.ref)
	if err != nil {
		return Spec{}, fmt.Errorf("GetMetricSpec: %w", err)
	}
	return specOf(r)
}

// specOf reads the first metric. This scaler has one per trigger.
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
		return Spec{}, fmt.Errorf("GetMetricSpec: metric %q has the target %d/1000", spec.Name, spec.TargetMilli)
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
			k.o.Logger.Warn("KEDA's poll failed", "error", err)
		}
		if !schedule.Sleep(ctx, k.o.Poll) {
			return
		}
	}
}

// errStop ends a stream permanently.
var errStop = errors.New("not implemented by the scaler")

// keepOpen opens a stream again each time it ends. The pause doubles until an end reports
// reset.
func (k *KEDA) keepOpen(ctx context.Context, name string, stream func(context.Context) (reset bool, err error)) {
	pause := k.o.Retry
	for {
		reset, err := stream(ctx)
		if ctx.Err() != nil || errors.Is(err, errStop) {
			return
		}
		if reset {
			pause = k.o.Retry
		}
		k.o.Logger.Info("a stream of KEDA ended", "stream", name, "error", err, "retry", pause)
		if !schedule.Sleep(ctx, pause) {
			return
		}
		pause = min(2*pause, k.o.RetryMax)
	}
}

// streamActive reads one StreamIsActive. Only a clean end resets the pause.
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

// streamSpec reads one StreamMetricSpec. A clean end, or one after a message, resets the pause.
func (k *KEDA) streamSpec(ctx context.Context) (reset bool, err error) {
	stream, err := k.client.StreamMetricSpec(ctx, k.ref)
	if err != nil {
		return false, fmt.Errorf("StreamMetricSpec: %w", err)
	}
	for {
		r, err := stream.Recv()
		switch {
		case status.Code(err) == codes.Unimplemented:
			return false, errStop
		case err != nil:
			return reset || errors.Is(err, io.EOF), fmt.Errorf("StreamMetricSpec: %w", err)
		}
		reset = true
		if spec, err := specOf(r); err != nil {
			k.o.Logger.Warn("KEDA ignores a streamed spec", "error", err)
		} else {
			k.spec.Store(&spec)
		}
	}
}
