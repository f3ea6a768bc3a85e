package demo

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/inference-scaler/inference-scaler/scaler/sim"
)

// The memory in use of a simulated GPU: for the model, and for each request of a batch.
const (
	modelMemoryBytes   = 9 << 30
	requestMemoryBytes = 700 << 20
)

// The series of a Lightning ASR server. The fleet has only batch requests, so the series of
// streams are 0.
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

// exposition is a Prometheus collector of the queue of one replica.
type exposition sim.Queue

// Describe implements [prometheus.Collector].
func (e exposition) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(e, ch) }

// Collect implements [prometheus.Collector].
func (e exposition) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	gauge(descActiveRequests, float64(e.Active))
	gauge(descActiveStreams, 0)
	gauge(descBatchQueue, float64(e.Waiting))
	gauge(descStreamQueue, 0)
	gauge(descGPU, 100*float64(e.Active)/float64(e.Slots))
	gauge(descGPUMemory, modelMemoryBytes+float64(e.Active)*requestMemoryBytes)
	ch <- prometheus.MustNewConstMetric(descTotal, prometheus.CounterValue, float64(e.Served))
	ch <- prometheus.MustNewConstMetric(descFailed, prometheus.CounterValue, 0)
	ch <- prometheus.MustNewConstHistogram(descDuration, uint64(e.Served), e.Seconds, e.Buckets)
}

// apiTier is a Prometheus collector of the number of requests that wait in the API tier.
type apiTier int

var descQueued = desc("demand_queued_requests", "Requests that wait for a server.")

// Describe implements [prometheus.Collector].
func (a apiTier) Describe(ch chan<- *prometheus.Desc) { ch <- descQueued }

// Collect implements [prometheus.Collector].
func (a apiTier) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(descQueued, prometheus.GaugeValue, float64(a))
}

// serveCollector responds to a scrape with one collector.
func serveCollector(w http.ResponseWriter, r *http.Request, state prometheus.Collector) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(state)
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, r)
}
