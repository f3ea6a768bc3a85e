package preset

// The router of vLLM's production stack. It knows the requests that it has sent to
// a server and holds none; the counter of those that come in counts without a
// server, too.
var vllmRouterUpstream = Upstream{
	Path:           "/metrics",
	InFlight:       Query{PromQL: perInstance(metric("vllm:num_requests_running"))},
	CountsInFlight: true,
	Arrivals:       perInstance(metric("vllm:num_incoming_requests")),
	Prefixes:       []string{"vllm:", "router_"},
}
