package prometheus

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/sync/semaphore"

	"github.com/inference-scaler/inference-scaler/metricsource/httpclient"
	"github.com/inference-scaler/inference-scaler/metricsource/schedule"
)

const (
	// maxRounds limits the groups that query concurrently.
	maxRounds = 128
	// minRoundGap is the shortest time between two rounds of a group, even if its pods
	// change often.
	minRoundGap = 500 * time.Millisecond
)

// Options of a Poller. The zero value is valid.
type Options struct {
	// Dial opens connections to servers; nil for a net.Dialer.
	Dial httpclient.Dialer
	// Registerer registers the poller's own metrics; nil for none.
	Registerer prometheus.Registerer
}

// Poller sends the queries of its groups when they are due. Its methods are safe for
// concurrent use.
type Poller struct {
	dial     httpclient.Dialer
	queries  *prometheus.CounterVec
	duration prometheus.Histogram
	slots    *semaphore.Weighted
	large    *semaphore.Weighted     // slots for large responses
	queue    *schedule.Queue[*Group] // without groups in a round
}

// New returns a Poller. It sends no queries before Run.
func New(opts Options) *Poller {
	f := promauto.With(opts.Registerer)
	return &Poller{
		dial:  opts.Dial,
		slots: semaphore.NewWeighted(maxRounds),
		large: semaphore.NewWeighted(largeResponses),
		queue: schedule.New[*Group](),
		queries: f.NewCounterVec(prometheus.CounterOpts{
			Name: "inference_scaler_prometheus_queries_total",
			Help: "Queries to Prometheus servers by result: ok, refused (the server rejected the query) or failed.",
		}, []string{"result"}),
		duration: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "inference_scaler_prometheus_query_duration_seconds",
			Help:    "Duration of queries to Prometheus servers, including failed ones.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 7),
		}),
	}
}

// Run sends queries when they are due. It stops when ctx is done, and returns when no round
// is in progress.
func (p *Poller) Run(ctx context.Context) error {
	p.queue.Run(ctx, func(g *Group) {
		if p.slots.Acquire(ctx, 1) != nil {
			return
		}
		g.round(ctx)
		p.slots.Release(1)
		g.reschedule(time.Now())
	})
	return nil
}

// nextRound returns the earliest time for a round after the last one.
func nextRound(now, last time.Time) time.Time {
	if next := last.Add(minRoundGap); next.After(now) {
		return next
	}
	return now
}
