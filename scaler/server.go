package scaler

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/inference-scaler/inference-scaler/scaler/trigger"
)

var (
	// errMetadata: the call is wrong, and will be until its author changes it.
	errMetadata = errors.New("wrong trigger metadata")
	// errUnknown: nothing was ever known. KEDA and the HPA hold on an error.
	errUnknown = errors.New("nothing is known yet")
)

// asStatus is the one mapping from errors to gRPC codes.
func asStatus(err error) error {
	code := codes.Internal
	switch {
	case errors.Is(err, errMetadata):
		code = codes.InvalidArgument
	case errors.Is(err, errTooMany):
		code = codes.ResourceExhausted
	case errors.Is(err, errUnknown):
		code = codes.Unavailable
	}
	return status.Error(code, err.Error())
}

// Register adds the scaler to a gRPC server.
func (s *Scaler) Register(server grpc.ServiceRegistrar) {
	externalscaler.RegisterExternalScalerServer(server, s)
}

// IsActive says whether the workload has anything to do.
func (s *Scaler) IsActive(_ context.Context, ref *externalscaler.ScaledObjectRef) (*externalscaler.IsActiveResponse, error) {
	l, err := s.lookup(ref)
	if err != nil {
		return nil, asStatus(err)
	}
	a, err := l.known()
	if err != nil {
		return nil, asStatus(err)
	}
	return &externalscaler.IsActiveResponse{Result: a.decision.Active}, nil
}

// GetMetricSpec is a function of the metadata alone: without it KEDA starts
// neither HPA nor stream, so it never fails for a want of data.
func (s *Scaler) GetMetricSpec(_ context.Context, ref *externalscaler.ScaledObjectRef) (*externalscaler.GetMetricSpecResponse, error) {
	l, err := s.lookup(ref)
	if errors.Is(err, errTooMany) {
		t, err := trigger.Parse(ref.GetScalerMetadata())
		if err != nil {
			return nil, asStatus(fmt.Errorf("%w: %w", errMetadata, err))
		}
		return spec(t), nil
	}
	if err != nil {
		return nil, asStatus(err)
	}
	return spec(l.trigger), nil
}

// GetMetrics returns one value: the HPA adds up whatever a reply holds.
func (s *Scaler) GetMetrics(_ context.Context, req *externalscaler.GetMetricsRequest) (*externalscaler.GetMetricsResponse, error) {
	l, err := s.lookup(req.GetScaledObjectRef())
	if err != nil {
		return nil, asStatus(err)
	}
	a, err := l.known()
	if err != nil {
		return nil, asStatus(err)
	}
	d := a.decision
	return &externalscaler.GetMetricsResponse{MetricValues: []*externalscaler.MetricValue{{
		MetricName:       req.GetMetricName(),
		MetricValue:      wholeValue(d.Value, d.Target, d.Replicas),
		MetricValueFloat: d.Value,
	}}}, nil
}

// known returns the present answer. A decision that cannot be renewed stands for
// as long as nothing better is known: an error is for what was never known.
func (l *live) known() (*answer, error) {
	a := l.answer.Load()
	if a.decision == nil {
		return nil, fmt.Errorf("%w of %s/%s: %w", errUnknown, l.namespace, l.name, a.err)
	}
	return a, nil
}

func spec(t *trigger.Trigger) *externalscaler.GetMetricSpecResponse {
	return &externalscaler.GetMetricSpecResponse{MetricSpecs: []*externalscaler.MetricSpec{{
		MetricName:      t.MetricName,
		TargetSize:      wholeTarget(t.Target),
		TargetSizeFloat: t.Target,
	}}}
}

// KEDA up to 2.16 reads whole numbers only. Where the true ones are not whole,
// these stand for the same replicas.
func wholeTarget(target float64) int64 { return int64(math.Ceil(target)) }

func wholeValue(value, target float64, replicas int) int64 {
	if value == math.Trunc(value) && target == math.Trunc(target) {
		return int64(value)
	}
	return int64(replicas) * wholeTarget(target)
}
