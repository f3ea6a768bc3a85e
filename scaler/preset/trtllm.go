package preset

// trtllm-serve of TensorRT-LLM. Older builds export names without a prefix. Its /metrics is
// JSON; the Prometheus format has another path.
var trtllm = Preset{
	Port:             8000,
	Path:             "/prometheus/metrics",
	Load:             total(trtllmWaiting),
	InFlight:         total(trtllmWaiting, trtllmRunning),
	Saturation:       Query{PromQL: "avg by (pod) (" + series([]string{"trtllm:kv_cache_utilization", "kv_cache_utilization"}) + ")"},
	SaturationTarget: 0.8,
}

var (
	trtllmWaiting = series([]string{"trtllm:num_requests_waiting", "num_requests_waiting"})
	trtllmRunning = series([]string{"trtllm:num_requests_running", "num_requests_running"})
)
