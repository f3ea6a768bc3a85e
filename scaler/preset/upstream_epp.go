package preset

// The endpoint picker of the Gateway API inference extension, with flow control. It queues
// requests while there is no endpoint. Its metrics have had three names. Some versions export
// the same values under two of them.
var eppUpstream = Upstream{
	Path: "/metrics",
	Queued: Query{PromQL: firstOf(
		perInstance(metric("llm_d_epp_flow_control_queue_size")),
		perInstance(metric("llm_d_router_epp_flow_control_queue_size")),
		perInstance(metric("inference_extension_flow_control_queue_size")),
	)},
	Arrivals: firstOf(
		perInstance(metric("llm_d_epp_flow_control_request_enqueue_duration_seconds_count")),
		perInstance(metric("llm_d_router_epp_flow_control_request_enqueue_duration_seconds_count")),
		perInstance(metric("inference_extension_flow_control_request_enqueue_duration_seconds_count")),
	),
	Prefixes: []string{"llm_d_epp_", "llm_d_router_epp_", "inference_extension_", "inference_pool_"},
}
