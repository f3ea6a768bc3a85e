package scaler

import (
	"fmt"
	"testing"

	"github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/metricsource/scrape"
	"github.com/inference-scaler/inference-scaler/scaler/evaluator"
)

// BenchmarkGetMetrics is a call without the wire, among 10 000 live triggers.
func BenchmarkGetMetrics(b *testing.B) {
	const triggers = 10_000
	e := evaluator.New(evaluator.Options{Scraper: scrape.New(scrape.Options{})}) // it does not run: nothing is read
	s := New(e)
	reqs := make([]*externalscaler.GetMetricsRequest, triggers)
	for i := range reqs {
		reqs[i] = &externalscaler.GetMetricsRequest{MetricName: "m", ScaledObjectRef: &externalscaler.ScaledObjectRef{
			Namespace: "asr", Name: fmt.Sprintf("fleet-%d", i),
			ScalerMetadata: map[string]string{
				"scalerAddress": "inference-scaler.keda.svc:9090", "engine": "vllm", "interval": "1m",
				"target": "5", "hold": "1m", "endpoints": fmt.Sprintf("10.0.%d.%d:8000", i/250, i%250),
			},
		}}
		_, err := s.GetMetrics(b.Context(), reqs[i])
		require.NoError(b, err)
	}
	b.Cleanup(e.Close)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		if _, err := s.GetMetrics(b.Context(), reqs[i*7919%triggers]); err != nil {
			b.Fatal(err)
		}
	}
}
