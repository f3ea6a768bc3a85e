package preset

// LMDeploy's api_server, with --enable-metrics.
var lmdeploy = Preset{
	Port: 23333,
	Path: "/metrics",
	Load: Query{
		PromQL: perPod(metric("lmdeploy:num_requests_waiting")),
		Needs:  []string{metric("lmdeploy:num_requests_waiting")},
	},
	InFlight: Query{
		PromQL: perPod(metric("lmdeploy:num_requests_waiting")) + " + " + perPod(metric("lmdeploy:num_requests_running")),
		Needs:  []string{metric("lmdeploy:num_requests_waiting"), metric("lmdeploy:num_requests_running")},
	},
	Saturation:       Query{PromQL: "avg by (pod) (" + metric("lmdeploy:gpu_cache_usage_perc") + ")"},
	SaturationTarget: 0.8,
}
