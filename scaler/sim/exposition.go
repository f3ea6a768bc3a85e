package sim

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// A GPU of the demonstration: what the model takes, and what each request of a
// batch adds to it.
const (
	modelMemoryBytes   = 9 << 30
	requestMemoryBytes = 700 << 20
)

// The series of a Lightning ASR server. The demonstration has batch requests
// only: streams are there, at 0, as on a server that gets none.
var (
	descActiveRequests = desc("asr_active_requests", "Batch requests being transcribed.")
	descActiveStreams  = desc("asr_active_streams", "Streams open.")
	descBatchQueue     = desc("asr_batch_queue_depth", "Batch requests waiting for a slot.")
	descStreamQueue    = desc("asr_stream_queue_depth", "Streams waiting, of the whole fleet.")
	descGPU            = desc("asr_gpu_utilization", "GPU utilization in percent.")
	descGPUMemory      = desc("asr_gpu_memory_used_bytes", "GPU memory in use.")
	descTotal          = desc("asr_total_requests", "Requests that ended, well or not.")
	descFailed         = desc("asr_failed_requests", "Requests that failed.")
	descDuration       = desc("asr_request_duration_seconds", "Time from a request's receipt to its end.")
)

func desc(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, nil, nil) }

// exposition is the state of one replica at one moment, as a Prometheus collector.
type exposition struct {
	active, waiting, slots, served int
	duration                       float64
	buckets                        [len(durationBounds)]uint64
}

func expose(r *replica) exposition {
	return exposition{
		active: r.active, waiting: len(r.waiting), slots: r.slots, served: r.served,
		duration: r.duration, buckets: r.buckets,
	}
}

// Describe implements [prometheus.Collector].
func (e exposition) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(e, ch) }

// Collect implements [prometheus.Collector].
func (e exposition) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	gauge(descActiveRequests, float64(e.active))
	gauge(descActiveStreams, 0)
	gauge(descBatchQueue, float64(e.waiting))
	gauge(descStreamQueue, 0)
	gauge(descGPU, 100*float64(e.active)/float64(e.slots))
	gauge(descGPUMemory, modelMemoryBytes+float64(e.active)*requestMemoryBytes)
	ch <- prometheus.MustNewConstMetric(descTotal, prometheus.CounterValue, float64(e.served))
	ch <- prometheus.MustNewConstMetric(descFailed, prometheus.CounterValue, 0)
	buckets := make(map[float64]uint64, len(durationBounds))
	for i, bound := range durationBounds {
		buckets[bound] = e.buckets[i]
	}
	ch <- prometheus.MustNewConstHistogram(descDuration, uint64(e.served), e.duration, buckets)
}

// front is how many requests wait in the API server, as a Prometheus collector.
type front int

var descQueued = desc("demand_queued_requests", "Requests that wait to be handed to a server.")

// Describe implements [prometheus.Collector].
func (f front) Describe(ch chan<- *prometheus.Desc) { ch <- descQueued }

// Collect implements [prometheus.Collector].
func (f front) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(descQueued, prometheus.GaugeValue, float64(f))
}

// serveCollector answers a scrape with a state.
func serveCollector(w http.ResponseWriter, r *http.Request, state prometheus.Collector) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(state)
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, r)
}
