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

// maxRounds bounds how many sources ask at the same time.
const maxRounds = 128

// Options of a Poller; the zero value is fit for use.
type Options struct {
	// Dial opens connections to servers; nil is a net.Dialer.
	Dial httpclient.Dialer
	// Registerer takes the poller's own metrics; nil is none.
	Registerer prometheus.Registerer
}

// Poller asks the questions of its sources when they are due. Its methods are
// safe for concurrent use.
type Poller struct {
	dial    httpclient.Dialer
	queries *prometheus.CounterVec
	took    prometheus.Histogram
	slots   *semaphore.Weighted
	large   *semaphore.Weighted      // answers
	queue   *schedule.Queue[*Source] // those that ask are not in it
}

// New returns a Poller. It asks nothing until Run.
func New(opts Options) *Poller {
	f := promauto.With(opts.Registerer)
	return &Poller{
		dial:  opts.Dial,
		slots: semaphore.NewWeighted(maxRounds),
		large: semaphore.NewWeighted(largeAnswers),
		queue: schedule.New[*Source](),
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

// Run asks what is due until ctx ends, and returns when all that is under way has ended.
func (p *Poller) Run(ctx context.Context) error {
	p.queue.Run(ctx, func(s *Source) {
		if p.slots.Acquire(ctx, 1) != nil {
			return
		}
		s.round(ctx)
		p.slots.Release(1)
		s.reschedule(time.Now())
	})
	return nil
}
