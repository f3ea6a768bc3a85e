package scaler

import (
	"context"
	"time"

	"github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
)

const (
	// firstLook is how long a new stream waits for the first readings: a scaler
	// that has only just started takes a fleet for active because it does not
	// know better, and that is no reason to wake it.
	firstLook = 3 * time.Second

	// KEDA drops a message when the ScaledObject's status is not written yet, or
	// its own write fails. So it is said again, later and later.
	firstRepeat = time.Second
	lastRepeat  = 30 * time.Second
)

// StreamIsActive sends true when the workload becomes active (on open: if it is),
// and again while it stays at zero all the same. It never sends false, which KEDA
// ignores, and never ticks: every message costs KEDA a status write.
func (s *Scaler) StreamIsActive(ref *externalscaler.ScaledObjectRef, stream grpc.ServerStreamingServer[externalscaler.IsActiveResponse]) error {
	l, err := s.lookup(ref)
	if err != nil {
		return asStatus(err)
	}
	news := l.watch()
	defer l.unwatch(news)
	if !s.await(stream.Context(), l.settled, firstLook) {
		return nil
	}
	repeat := time.NewTimer(time.Hour)
	defer repeat.Stop()
	var said uint64 // the edge that the last message was about
	pause, waiting := firstRepeat, false
	wait := func() {
		repeat.Reset(pause)
		waiting = true
	}
	say := func() error {
		wait()
		return stream.Send(&externalscaler.IsActiveResponse{Result: true})
	}
	for {
		a := l.answer.Load()
		if active(a) && a.edges != said {
			said, pause = a.edges, firstRepeat
			if err := say(); err != nil {
				return err
			}
		} else if !waiting && l.scaler.opts.Cluster != nil && l.unheard(firstRepeat) {
			// Put to sleep, or no longer paused, while there is demand.
			pause = firstRepeat
			wait()
		}
		switch s.next(stream.Context(), news, repeat.C) {
		case streamEnds:
			return nil
		case timerFired:
			waiting = false
			if !l.unheard(pause) {
				continue
			}
			pause = min(2*pause, lastRepeat)
			if err := say(); err != nil {
				return err
			}
		}
	}
}

// unheard reports whether an activation seems to have been lost: the workload
// still stands at zero, and nobody has paused it. Without Kubernetes nothing
// shows, and it is said again up to the last pause, once.
func (l *live) unheard(pause time.Duration) bool {
	a := l.answer.Load()
	if !active(a) || paused(a) {
		return false
	}
	if l.scaler.opts.Cluster == nil {
		return pause < lastRepeat
	}
	return replicasOf(a) == 0
}

// StreamMetricSpec sends the spec on open. It is a function of the metadata, and
// other metadata are another stream; so there is nothing to send after that.
func (s *Scaler) StreamMetricSpec(ref *externalscaler.ScaledObjectRef, stream grpc.ServerStreamingServer[externalscaler.GetMetricSpecResponse]) error {
	l, err := s.lookup(ref)
	if err != nil {
		return asStatus(err)
	}
	news := l.watch()
	defer l.unwatch(news)
	if err := stream.Send(spec(l.trigger)); err != nil {
		return err
	}
	for s.next(stream.Context(), news, nil) != streamEnds {
		continue
	}
	return nil
}

// event is what a stream waits for.
type event int

const (
	streamEnds event = iota // the caller, this scaler or the trigger is going
	somethingNew
	timerFired
)

func (s *Scaler) next(ctx context.Context, news <-chan struct{}, timer <-chan time.Time) event {
	select {
	case <-ctx.Done():
		return streamEnds
	case <-s.closing:
		return streamEnds
	case _, open := <-news:
		if !open {
			return streamEnds
		}
		return somethingNew
	case <-timer:
		return timerFired
	}
}

// await waits for done, but no longer than most; false when the stream is to end.
func (s *Scaler) await(ctx context.Context, done <-chan struct{}, most time.Duration) bool {
	timer := time.NewTimer(most)
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

// watch returns a channel that gets a message when something that a stream cares
// about has changed, and is closed with the trigger.
func (l *live) watch() chan struct{} {
	news := make(chan struct{}, 1)
	l.watcherMu.Lock()
	defer l.watcherMu.Unlock()
	if l.ended {
		close(news)
		return news
	}
	l.watching[news] = struct{}{}
	return news
}

func (l *live) unwatch(news chan struct{}) {
	l.watcherMu.Lock()
	defer l.watcherMu.Unlock()
	delete(l.watching, news)
	l.used.Store(time.Now().UnixNano())
}

func (l *live) watchers() int {
	l.watcherMu.Lock()
	defer l.watcherMu.Unlock()
	return len(l.watching)
}

// notify tells the streams of news. One that has not taken the last yet will
// find all of it when it does.
func (l *live) notify() {
	l.watcherMu.Lock()
	defer l.watcherMu.Unlock()
	for news := range l.watching {
		select {
		case news <- struct{}{}:
		default:
		}
	}
}

// endWatching ends the streams of a trigger that is closed.
func (l *live) endWatching() {
	l.watcherMu.Lock()
	defer l.watcherMu.Unlock()
	l.ended = true
	for news := range l.watching {
		close(news)
	}
	clear(l.watching)
}
