package scrape

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"github.com/inference-scaler/inference-scaler/metricsource/httpclient"
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
)

// Options of a Scraper.
type Options struct {
	// Dial opens connections to targets; nil is a net.Dialer.
	Dial httpclient.Dialer
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
	bodies  bodySlots
	queue   *schedule.Queue[*target] // those being read are not in it
	names   sharedNames
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
		bodies:  newBodySlots(1),
		queue:   schedule.New[*target](),
		names:   sharedNames{by: map[string]*namesInUse{}},
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
