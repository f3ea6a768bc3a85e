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
	// tick is the grid of all scrapes: one wake-up of the process sends many requests.
	tick = 10 * time.Millisecond
	// maxInFlight limits the concurrent scrapes, and therefore the memory for bodies.
	maxInFlight = 1024
	// maxInFlightOfGroup prevents one group with hanging targets from blocking others.
	maxInFlightOfGroup = 512
)

// Options of a Scraper.
type Options struct {
	// Dial opens connections to targets; nil for a net.Dialer.
	Dial httpclient.Dialer
	// Registerer registers the scraper's own metrics; nil for none.
	Registerer prometheus.Registerer
	// Logger logs targets that start or stop failing; nil for no logs.
	Logger *slog.Logger
}

// Scraper scrapes the targets of its groups. Its methods are safe for concurrent use.
type Scraper struct {
	opts    Options
	metrics *metrics
	slots   *semaphore.Weighted
	bodies  bodySlots
	queue   *schedule.Queue[*target] // without those in flight
	names   sharedNames
}

// New returns a Scraper. It scrapes nothing before Run.
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
		names:   sharedNames{inUse: map[string]*namesInUse{}},
	}
}

// Run scrapes targets when they are due. It stops when ctx is done, and returns when no
// scrape is in flight.
func (s *Scraper) Run(ctx context.Context) error {
	s.queue.Run(ctx, func(t *target) {
		t.read(ctx, s.slots)
		t.reschedule(time.Now())
	})
	return nil
}

// onGrid rounds a time up to a multiple of tick.
func onGrid(at time.Time) time.Time {
	return at.Add(tick - 1).Truncate(tick)
}
