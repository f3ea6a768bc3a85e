package preset

// An application that exports or pushes its demand itself, such as an API server. Requests in
// flight include the queued ones.
var demandUpstream = Upstream{
	Path:     "/metrics",
	Queued:   Query{PromQL: perInstance(metric("demand_queued_requests"))},
	InFlight: Query{PromQL: perInstance(metric("demand_inflight_requests"))},
	Arrivals: perInstance(metric("demand_requests")),
}
