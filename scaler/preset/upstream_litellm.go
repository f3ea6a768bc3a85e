package preset

// The LiteLLM proxy counts all requests in flight. One of them is the request for its
// metrics, which is subtracted.
var liteLLMUpstream = Upstream{
	Path:           "/metrics",
	InFlight:       Query{PromQL: "clamp_min(" + perInstance(metric("litellm_in_flight_requests")) + " - 1, 0)"},
	CountsInFlight: true,
}
