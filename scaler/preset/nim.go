package preset

// NVIDIA NIM for LLMs, whose series have no prefix.
var nim = Preset{
	Port:             8000,
	Path:             "/v1/metrics",
	Load:             total(metric("num_requests_waiting")),
	InFlight:         total(metric("num_requests_waiting"), metric("num_requests_running")),
	Saturation:       Query{PromQL: "avg by (pod) (" + metric("gpu_cache_usage_perc") + ")"},
	SaturationTarget: 0.8,
}
