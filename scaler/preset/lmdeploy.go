package preset

// LMDeploy's api_server, with --enable-metrics.
var lmdeploy = Preset{
	Port:             23333,
	Path:             "/metrics",
	Load:             total(metric("lmdeploy:num_requests_waiting")),
	InFlight:         total(metric("lmdeploy:num_requests_waiting"), metric("lmdeploy:num_requests_running")),
	Saturation:       Query{PromQL: "avg by (pod) (" + metric("lmdeploy:gpu_cache_usage_perc") + ")"},
	SaturationTarget: 0.8,
}
