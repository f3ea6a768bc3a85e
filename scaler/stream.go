package scaler

import (
	"context"
	"time"

	"github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"

	"github.com/inference-scaler/inference-scaler/scaler/evaluator"
)

const (
	// firstLook is how long a new stream waits for the first readings. A scaler that
	// has just started takes a fleet of unknown load for active, and must not wake it.
	firstLook = 3 * time.Second

	// KEDA drops a message when the ScaledObject's status is not written yet, or when
	// its own write fails. So a message is repeated, at growing intervals.
	firstRepeat = time.Second
	lastRepeat  = 30 * time.Second
)

// StreamIsActive sends true when the workload becomes active, or is on open, and again
// while it stays at zero replicas. It never sends false, which KEDA ignores, and has no
// fixed interval: every message costs KEDA a status write.
func (s *Scaler) StreamIsActive(ref *externalscaler.ScaledObjectRef, stream grpc.ServerStreamingServer[externalscaler.IsActiveResponse]) error {
	t, err := s.lookup(ref)
	if err != nil {
		return asStatus(err)
	}
	changes, stop := t.Watch()
	defer stop()
	if !s.await(stream.Context(), t.Settled(), firstLook) {
		return nil
	}
	repeat := time.NewTimer(time.Hour)
	defer repeat.Stop()
	var sent uint64 // the activation that the last message was about
	pause, waiting := firstRepeat, false
	wait := func() {
		repeat.Reset(pause)
		waiting = true
	}
	send := func() error {
		wait()
		return stream.Send(&externalscaler.IsActiveResponse{Result: true})
	}
	for {
		a := t.Last()
		if a.Active() && a.Activations != sent {
			sent, pause = a.Activations, firstRepeat
			if err := send(); err != nil {
				return err
			}
		} else if !waiting && s.evaluator.Kubernetes() && s.lost(a, firstRepeat) {
			// It was put to sleep, or resumed, while there is demand.
			pause = firstRepeat
			wait()
		}
		switch s.next(stream.Context(), changes, repeat.C) {
		case streamEnds:
			return nil
		case timerFired:
			waiting = false
			if !s.lost(t.Last(), pause) {
				continue
			}
			pause = min(2*pause, lastRepeat)
			if err := send(); err != nil {
				return err
			}
		}
	}
}

// lost reports whether an activation seems to have been lost: the workload still has
// zero replicas, and is not paused. Without Kubernetes its replicas are not known, and
// the message is repeated until the pause between two has grown to its limit.
func (s *Scaler) lost(a *evaluator.Answer, pause time.Duration) bool {
	if !a.Active() || a.Paused() {
		return false
	}
	if !s.evaluator.Kubernetes() {
		return pause < lastRepeat
	}
	return a.Replicas() == 0
}

// StreamMetricSpec sends the spec on open. The spec depends on the metadata alone, and
// other metadata open another stream, so nothing follows.
func (s *Scaler) StreamMetricSpec(ref *externalscaler.ScaledObjectRef, stream grpc.ServerStreamingServer[externalscaler.GetMetricSpecResponse]) error {
	t, err := s.lookup(ref)
	if err != nil {
		return asStatus(err)
	}
	changes, stop := t.Watch()
	defer stop()
	if err := stream.Send(spec(t.Spec())); err != nil {
		return err
	}
	for s.next(stream.Context(), changes, nil) != streamEnds {
		continue
	}
	return nil
}

// event is what a stream waits for.
type event int

const (
	streamEnds event = iota // the caller, this scaler or the trigger ends
	answerChanged
	timerFired
)

func (s *Scaler) next(ctx context.Context, changes <-chan struct{}, timer <-chan time.Time) event {
	select {
	case <-ctx.Done():
		return streamEnds
	case <-s.closing:
		return streamEnds
	case _, open := <-changes:
		if !open {
			return streamEnds
		}
		return answerChanged
	case <-timer:
		return timerFired
	}
}

// await waits for done, up to a limit. It returns false if the stream is to end.
func (s *Scaler) await(ctx context.Context, done <-chan struct{}, limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	case <-ctx.Done():
		return false
	case <-s.closing:
		return false
	}
	return true
}
