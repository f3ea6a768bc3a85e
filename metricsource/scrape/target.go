package scrape

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/inference-scaler/inference-scaler/metricsource"
	"github.com/inference-scaler/inference-scaler/metricsource/httpclient"
	"github.com/inference-scaler/inference-scaler/metricsource/schedule"
)

// target is one target of a group. The scraper reads it from one goroutine at a
// time; what is under mu is also seen from others.
type target struct {
	group     *Group
	spec      Target
	transport *httpclient.Transport // of its own: its connection is closed when it goes
	offset    time.Duration
	cancel    context.CancelFunc // of the reading under way
	reader    reader

	mu       sync.Mutex
	ready    bool
	closed   bool
	failures int // in a row
	status   metricsource.Status
	samples  *metricsource.Target
}

func newTarget(g *Group, spec Target, offset time.Duration) *target {
	t := &target{
		group:   g,
		spec:    spec,
		ready:   spec.Ready,
		offset:  offset,
		status:  metricsource.Status{Target: spec.Name, Err: errNotAnswered},
		samples: g.cfg.Window.Target(spec.Labels),
		transport: httpclient.NewTransport(httpclient.Options{
			URL:         spec.URL,
			Dial:        g.scraper.opts.Dial,
			Permit:      g.cfg.Permit,
			Timeout:     g.cfg.Timeout,
			Interval:    g.cfg.Interval,
			Verify:      g.cfg.Verify,
			Credentials: g.cfg.Credentials,
		}),
	}
	t.reader.target = t
	return t
}

// setReady notes whether the target is ready, and returns whether it was.
func (t *target) setReady(ready bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.ready
	t.ready = ready
	if ready && !was {
		t.failures = 0
	}
	return was
}

func (t *target) snapshot() metricsource.Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.status
}

// close ends a reading under way, and takes the target's series and connection away.
func (t *target) close() {
	t.mu.Lock()
	t.closed = true
	if t.cancel != nil {
		t.cancel()
	}
	t.samples.Remove()
	t.group.scraper.queue.Remove(t)
	t.mu.Unlock()
	t.group.scraper.metrics.targets.Dec()
	t.transport.Close()
}

// reschedule queues the target's next reading: at the next moment of its group's
// grid, or after its back-off.
func (t *target) reschedule(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	interval := t.group.interval()
	at := now.Truncate(interval).Add((t.group.phase + t.offset) % interval)
	if t.failures > 1 {
		at = now.Add(schedule.BackOff(interval, t.failures))
	} else if !at.After(now) {
		at = at.Add(interval)
	}
	// The grid is the wall clock's; the wait is not, should somebody set that.
	t.group.scraper.queue.At(t, now.Add(onGrid(at).Sub(now.Round(0))))
}

// read reads the target once, and notes the outcome.
func (t *target) read(ctx context.Context, slots *semaphore.Weighted) {
	if t.group.slots.Acquire(ctx, 1) != nil {
		return
	}
	defer t.group.slots.Release(1)
	if slots.Acquire(ctx, 1) != nil {
		return
	}
	defer slots.Release(1)
	ctx, cancel := context.WithTimeoutCause(ctx, t.group.cfg.Timeout, errTimeout)
	defer cancel()
	if !t.begin(cancel) {
		return
	}
	begun := time.Now()
	reading, err := t.reader.read(ctx)
	// The request, the dial and the handshake have the same limit; which of them
	// is told of first means nothing.
	var late interface{ Timeout() bool }
	if err != nil && !errors.Is(err, errNoRoom) && (errors.Is(context.Cause(ctx), errTimeout) || errors.As(err, &late) && late.Timeout()) {
		err = errTimeout
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = &connectionError{op}
	}
	if t.note(ctx, reading, err) {
		t.group.scraper.metrics.duration.Observe(time.Since(begun).Seconds())
		t.group.cfg.OnRead()
	}
}

func (t *target) begin(cancel context.CancelFunc) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cancel = cancel
	return !t.closed
}

// note takes the outcome of a reading; false where the target went, or the scraper
// stopped, meanwhile.
func (t *target) note(ctx context.Context, r reading, err error) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cancel = nil
	if t.closed || err != nil && errors.Is(context.Cause(ctx), context.Canceled) {
		return false
	}
	now := time.Now()
	var none *metricsource.NoSeriesError
	answers := err == nil || errors.As(err, &none)
	if answers {
		take := t.samples.Commit
		if none != nil {
			take = t.samples.Merge
		}
		if full := take(now, r.points); full != nil {
			err, answers = full, false
		}
	}
	t.group.scraper.metrics.scrapes.WithLabelValues(reason(err)).Inc()
	t.log(err)
	t.status.Tried, t.status.Err = now, err
	if answers {
		t.failures = 0 // it is read on, though series are missing, or those that are not would be late
	} else {
		t.failures++
		t.samples.Fail(now)
	}
	if err == nil {
		t.status.Answered, t.status.Idle = now, r.idle
	}
	return true
}

// log tells of a target that began to fail after it had answered, and of one
// that answers again. What never answered is its status' to tell.
func (t *target) log(err error) {
	before := t.status.Err
	if t.status.Answered.IsZero() || (err == nil) == (before == nil) {
		return
	}
	url, _, _ := strings.Cut(t.spec.URL, "?") // what is behind it may be a secret
	logger := t.group.scraper.opts.Logger.With("target", t.spec.Name, "url", url)
	var none *metricsource.NoSeriesError
	switch {
	case errors.As(err, &none):
		logger.Warn("target lacks its series", slog.Any("error", err))
	case err != nil:
		logger.Warn("target stopped answering", slog.Any("error", err))
	default:
		logger.Info("target answers again")
	}
}
