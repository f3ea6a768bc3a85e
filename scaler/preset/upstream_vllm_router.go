package preset

// The router of vLLM's production stack. It exports the requests that it has sent to servers,
// and has no queue. Its counter of incoming requests also counts without a server.
var vllmRouterUpstream = Upstream{
	Path:           "/metrics",
	InFlight:       Query{PromQL: perInstance(metric("vllm:num_requests_running"))},
	CountsInFlight: true,
	Arrivals:       perInstance(metric("vllm:num_incoming_requests")),
	Prefixes:       []string{"vllm:", "router_"},
}
