package preset

// The LiteLLM proxy counts every request that it is answering, the one that reads
// its metrics among them.
var liteLLMUpstream = Upstream{
	Path:           "/metrics",
	InFlight:       Query{PromQL: "clamp_min(" + perInstance(metric("litellm_in_flight_requests")) + " - 1, 0)"},
	CountsInFlight: true,
}
