package scaler

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/inference-scaler/inference-scaler/scaler/evaluator"
	"github.com/inference-scaler/inference-scaler/scaler/trigger"
)

// Scaler implements KEDA's external scaler. Its methods are safe for concurrent use.
type Scaler struct {
	externalscaler.UnimplementedExternalScalerServer
	evaluator *evaluator.Evaluator
	closing   chan struct{}
	closeOnce sync.Once
}

// New returns a Scaler that answers with the decisions of an evaluator.
func New(e *evaluator.Evaluator) *Scaler {
	return &Scaler{evaluator: e, closing: make(chan struct{})}
}

// CloseStreams ends all streams without an error, new ones too: KEDA reconnects soon
// after a clean end, and late after any other.
func (s *Scaler) CloseStreams() { s.closeOnce.Do(func() { close(s.closing) }) }

// lookup returns the trigger of a call.
func (s *Scaler) lookup(ref *externalscaler.ScaledObjectRef) (*evaluator.Trigger, error) {
	return s.evaluator.Lookup(ref.GetNamespace(), ref.GetName(), ref.GetScalerMetadata())
}

// answer returns the present answer to a call.
func (s *Scaler) answer(ref *externalscaler.ScaledObjectRef) (*evaluator.Answer, error) {
	t, err := s.lookup(ref)
	if err != nil {
		return nil, asStatus(err)
	}
	a, err := t.Answer()
	if err != nil {
		return nil, asStatus(err)
	}
	return a, nil
}

// asStatus is the one mapping from errors to gRPC codes.
func asStatus(err error) error {
	code := codes.Internal
	switch {
	case errors.Is(err, evaluator.ErrMetadata):
		code = codes.InvalidArgument
	case errors.Is(err, evaluator.ErrTooMany):
		code = codes.ResourceExhausted
	case errors.Is(err, evaluator.ErrUnknown):
		code = codes.Unavailable
	}
	return status.Error(code, err.Error())
}

// Register adds the scaler to a gRPC server.
func (s *Scaler) Register(server grpc.ServiceRegistrar) {
	externalscaler.RegisterExternalScalerServer(server, s)
}

// IsActive reports whether the workload must not sleep.
func (s *Scaler) IsActive(_ context.Context, ref *externalscaler.ScaledObjectRef) (*externalscaler.IsActiveResponse, error) {
	a, err := s.answer(ref)
	if err != nil {
		return nil, err
	}
	return &externalscaler.IsActiveResponse{Result: a.Decision.Active}, nil
}

// GetMetricSpec is a function of the metadata alone: without it KEDA starts
// neither HPA nor stream, so it never fails for lack of data.
func (s *Scaler) GetMetricSpec(_ context.Context, ref *externalscaler.ScaledObjectRef) (*externalscaler.GetMetricSpecResponse, error) {
	found, err := s.lookup(ref)
	if errors.Is(err, evaluator.ErrTooMany) {
		t, err := trigger.Parse(ref.GetScalerMetadata())
		if err != nil {
			return nil, asStatus(fmt.Errorf("%w: %w", evaluator.ErrMetadata, err))
		}
		return spec(t), nil
	}
	if err != nil {
		return nil, asStatus(err)
	}
	return spec(found.Spec()), nil
}

// GetMetrics returns one value: the HPA adds up whatever a reply holds.
func (s *Scaler) GetMetrics(_ context.Context, req *externalscaler.GetMetricsRequest) (*externalscaler.GetMetricsResponse, error) {
	a, err := s.answer(req.GetScaledObjectRef())
	if err != nil {
		return nil, err
	}
	d := a.Decision
	return &externalscaler.GetMetricsResponse{MetricValues: []*externalscaler.MetricValue{{
		MetricName:       req.GetMetricName(),
		MetricValue:      wholeValue(d.Value, d.Target, d.Replicas),
		MetricValueFloat: d.Value,
	}}}, nil
}

func spec(t *trigger.Trigger) *externalscaler.GetMetricSpecResponse {
	return &externalscaler.GetMetricSpecResponse{MetricSpecs: []*externalscaler.MetricSpec{{
		MetricName:      t.MetricName,
		TargetSize:      wholeTarget(t.Target),
		TargetSizeFloat: t.Target,
	}}}
}

// KEDA up to 2.16 reads whole numbers only. If the exact ones are not whole, it gets
// numbers that ask for the same replicas.
func wholeTarget(target float64) int64 { return int64(math.Ceil(target)) }

func wholeValue(value, target float64, replicas int) int64 {
	if value == math.Trunc(value) && target == math.Trunc(target) {
		return int64(value)
	}
	return int64(replicas) * wholeTarget(target)
}
