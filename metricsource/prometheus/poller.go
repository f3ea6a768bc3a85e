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
	// maxRounds bounds how many groups ask at the same time.
	maxRounds = 128
	// minRoundGap is the least time between two rounds of a group, however often its
	// pods change.
	minRoundGap = 500 * time.Millisecond
)

// Options of a Poller; the zero value is fit for use.
type Options struct {
	// Dial opens connections to servers; nil is a net.Dialer.
	Dial httpclient.Dialer
	// Registerer registers the poller's own metrics; nil is none.
	Registerer prometheus.Registerer
}

// Poller asks the queries of its groups when they are due. Its methods are safe for
// concurrent use.
type Poller struct {
	dial    httpclient.Dialer
	queries *prometheus.CounterVec
	took    prometheus.Histogram
	slots   *semaphore.Weighted
	large   *semaphore.Weighted // answers
	queue   *schedule.Queue[asker]
}

// asker asks its queries in rounds. The queue does not hold one that asks.
type asker interface {
	// round asks all queries once.
	round(ctx context.Context)
	// reschedule queues the next round.
	reschedule(now time.Time)
}

// New returns a Poller. It asks nothing until Run.
func New(opts Options) *Poller {
	f := promauto.With(opts.Registerer)
	return &Poller{
		dial:  opts.Dial,
		slots: semaphore.NewWeighted(maxRounds),
		large: semaphore.NewWeighted(largeAnswers),
		queue: schedule.New[asker](),
		queries: f.NewCounterVec(prometheus.CounterOpts{
			Name: "inference_scaler_prometheus_queries_total",
			Help: "Queries to Prometheus servers by result: ok, refused (the server would not answer this one) or failed.",
		}, []string{"result"}),
		took: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "inference_scaler_prometheus_query_duration_seconds",
			Help:    "Time that one query to a Prometheus server took, failed ones included.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 7),
		}),
	}
}

// Run asks queries when they are due until ctx ends, and returns when all rounds
// under way have ended.
func (p *Poller) Run(ctx context.Context) error {
	p.queue.Run(ctx, func(a asker) {
		if p.slots.Acquire(ctx, 1) != nil {
			return
		}
		a.round(ctx)
		p.slots.Release(1)
		a.reschedule(time.Now())
	})
	return nil
}

// soon is when a round may follow the one that ended last.
func soon(now, last time.Time) time.Time {
	if next := last.Add(minRoundGap); next.After(now) {
		return next
	}
	return now
}
