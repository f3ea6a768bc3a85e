package preset

// vLLM V1. Newer servers export waiting requests by reason. Only requests that wait for
// capacity need more replicas. Deferred requests wait for an adapter, a transfer or a
// grammar. num_requests_waiting counts both.
//
// A server with several API processes exports no gauges before its first request. Older
// versions then export the cache usage of each process, and all but one remain at 0.
var vllm = Preset{
	Port:   8000,
	Path:   "/metrics",
	Target: 5,
	Load: Query{
		PromQL: firstOf(
			perPod(metric("vllm:num_requests_waiting_by_reason", `reason="capacity"`)),
			perPod(metric("vllm:num_requests_waiting"))),
		Needs: []string{vllmWaiting},
	},
	InFlight: Query{
		PromQL: firstOf(
			perPod(metric("vllm:num_requests_waiting_by_reason")),
			perPod(metric("vllm:num_requests_waiting"))) +
			" + " + perPod(metric("vllm:num_requests_running")),
		Needs: []string{vllmWaiting, metric("vllm:num_requests_running")},
	},
	Saturation: Query{PromQL: firstOf(
		"avg by (pod) (max without (pid) ("+metric("vllm:kv_cache_usage_perc")+"))",
		"avg by (pod) (max without (pid) ("+metric("vllm:gpu_cache_usage_perc")+"))",
	)},
	SaturationTarget: 0.8,
	Prefixes:         []string{"vllm:", "vllm_"},
	Served:           metric("vllm:prompt_tokens"),
}

var vllmWaiting = series([]string{"vllm:num_requests_waiting_by_reason", "vllm:num_requests_waiting"})
