package scrape

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"github.com/inference-scaler/inference-scaler/metricsource/schedule"
)

const (
	// tick is the grid that all readings fall on, so that one wake-up of the
	// process sends many requests.
	tick = 10 * time.Millisecond
	// maxInFlight bounds the requests under way, and with them the memory of bodies.
	maxInFlight = 1024
	// maxInFlightOfGroup keeps one group whose targets all hang from holding up
	// the others.
	maxInFlightOfGroup = 512
	// maxBackOff is the longest pause before a failing target is tried again
	// (or its interval, where that is longer): a healed target is soon known.
	maxBackOff = 5 * time.Second
)

// Options of a Scraper.
type Options struct {
	// Dial opens connections to targets; nil is a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Registerer takes the scraper's own metrics; nil is none.
	Registerer prometheus.Registerer
	// Logger is told of targets that begin or cease to fail; nil discards.
	Logger *slog.Logger
}

// Scraper reads the targets of its groups. Its methods are safe for concurrent use.
type Scraper struct {
	opts    Options
	metrics *metrics
	slots   *semaphore.Weighted
	queue   *schedule.Queue[*target] // those being read are not in it
}

// New returns a Scraper. It reads nothing until Run.
func New(opts Options) *Scraper {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Scraper{
		opts:    opts,
		metrics: newMetrics(opts.Registerer),
		slots:   semaphore.NewWeighted(maxInFlight),
		queue:   schedule.New[*target](),
	}
}

// Run reads targets when they are due until ctx ends, and returns when all
// readings under way have ended.
func (s *Scraper) Run(ctx context.Context) error {
	s.queue.Run(ctx, func(t *target) {
		t.read(ctx, s.slots)
		t.reschedule(time.Now())
	})
	return nil
}

// onGrid returns the first moment of the grid (tick, shifted by nothing) at or
// after the given one.
func onGrid(at time.Time) time.Time {
	return at.Add(tick - 1).Truncate(tick)
}

// backOff returns the pause after so many failures in a row: the interval,
// doubled with each failure up to a limit, less up to a fifth so that targets
// that failed together do not return together.
func backOff(interval time.Duration, failures int) time.Duration {
	if failures <= 1 {
		return interval
	}
	pause := min(interval<<min(failures-1, 16), max(interval, maxBackOff))
	return pause - time.Duration(rand.Int64N(int64(pause/5)+1))
}

// dialer returns the function that connects to targets. The check is made on the
// address that is dialled, after names are resolved.
func (s *Scraper) dialer(permit func(netip.Addr) error) func(context.Context, string, string) (net.Conn, error) {
	if s.opts.Dial != nil {
		return s.opts.Dial
	}
	d := &net.Dialer{KeepAlive: -1, ControlContext: control(permit)}
	return d.DialContext
}
