package scrape

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	scrapes  *prometheus.CounterVec
	duration prometheus.Histogram
	bytes    prometheus.Counter
	targets  prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		scrapes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "inference_scaler_scrapes_total",
			Help: "Scrapes of targets by result: ok, or the class of the error.",
		}, []string{"result"}),
		duration: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "inference_scaler_scrape_duration_seconds",
			Help:    "Duration of the scrapes of targets, including failed ones.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8),
		}),
		bytes: f.NewCounter(prometheus.CounterOpts{
			Name: "inference_scaler_scrape_body_bytes_total",
			Help: "Bytes of the response bodies of targets.",
		}),
		targets: f.NewGauge(prometheus.GaugeOpts{
			Name: "inference_scaler_scrape_targets",
			Help: "Targets that are scraped at present.",
		}),
	}
}
