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

// target is one target of a group. At most one goroutine scrapes it at a time. mu guards
// the fields that other goroutines use too.
type target struct {
	group     *Group
	spec      Target
	transport *httpclient.Transport // one per target, so that close can close its connections
	offset    time.Duration
	cancel    context.CancelFunc // cancels the scrape in flight
	reader    reader

	mu       sync.Mutex
	ready    bool
	closed   bool
	failures int // consecutive
	status   metricsource.Status
	samples  *metricsource.Target
}

func newTarget(g *Group, spec Target, offset time.Duration) *target {
	t := &target{
		group:   g,
		spec:    spec,
		ready:   spec.Ready,
		offset:  offset,
		status:  metricsource.Status{Target: spec.Name, Err: errNotRead},
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

// setReady sets the readiness of the target, and returns the previous one.
func (t *target) setReady(ready bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	previous := t.ready
	t.ready = ready
	if ready && !previous {
		t.failures = 0
	}
	return previous
}

func (t *target) snapshot() metricsource.Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.status
}

// close cancels the scrape in flight, removes the target's series and closes its
// connections.
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

// reschedule queues the next scrape: at the target's offset in the interval, or after its
// back-off.
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
	// The grid is based on the wall clock. The due time is based on the monotonic clock, so
	// a change of the wall clock does not affect it.
	t.group.scraper.queue.At(t, now.Add(onGrid(at).Sub(now.Round(0))))
}

// read scrapes the target once, and records the result.
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
	// The request, the dial and the TLS handshake have the same timeout, and any of them
	// can be reported first. One message for all keeps the error stable.
	var timeout interface{ Timeout() bool }
	if err != nil && !errors.Is(err, errBodyLimit) && (errors.Is(context.Cause(ctx), errTimeout) || errors.As(err, &timeout) && timeout.Timeout()) {
		err = errTimeout
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = &connectionError{op}
	}
	if t.record(ctx, reading, err) {
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

// record writes the result of a scrape to the window and to the status. It returns false
// if the target was closed, or the scraper stopped, during the scrape.
func (t *target) record(ctx context.Context, r reading, err error) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cancel = nil
	if t.closed || err != nil && errors.Is(context.Cause(ctx), context.Canceled) {
		return false
	}
	now := time.Now()
	var none *metricsource.NoSeriesError
	responds := err == nil || errors.As(err, &none)
	if responds {
		write := t.samples.Commit
		if none != nil {
			write = t.samples.Merge
		}
		if limit := write(now, r.points); limit != nil {
			err, responds = limit, false
		}
	}
	t.group.scraper.metrics.scrapes.WithLabelValues(reason(err)).Inc()
	t.log(err)
	t.status.Tried, t.status.Err = now, err
	if responds {
		t.failures = 0 // no back-off for missing series, because the other series need updates
	} else {
		t.failures++
		t.samples.Fail(now)
	}
	if err == nil {
		t.status.Answered, t.status.Idle = now, r.idle
	}
	return true
}

// log logs a target that starts to fail after a successful scrape, and one that recovers.
// For a target without a successful scrape, only the status contains the error.
func (t *target) log(err error) {
	previous := t.status.Err
	if t.status.Answered.IsZero() || (err == nil) == (previous == nil) {
		return
	}
	url, _, _ := strings.Cut(t.spec.URL, "?") // the query string can contain a secret
	logger := t.group.scraper.opts.Logger.With("target", t.spec.Name, "url", url)
	var none *metricsource.NoSeriesError
	switch {
	case errors.As(err, &none):
		logger.Warn("target lacks required series", slog.Any("error", err))
	case err != nil:
		logger.Warn("target failed", slog.Any("error", err))
	default:
		logger.Info("target recovered")
	}
}
