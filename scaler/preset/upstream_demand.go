package preset

// What reports demand on its own account: an API server of one's own. The queued
// are among those in flight.
var demandUpstream = Upstream{
	Path:     "/metrics",
	Queued:   Query{PromQL: perInstance(metric("demand_queued_requests"))},
	InFlight: Query{PromQL: perInstance(metric("demand_inflight_requests"))},
	Arrivals: perInstance(metric("demand_requests")),
}
