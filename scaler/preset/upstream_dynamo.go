package preset

// NVIDIA Dynamo's frontend holds a request in its queue until a worker's first
// answer, so what is queued there may wait on a worker already: in flight is what
// can be joined with the workers' own. Without a worker it refuses requests and
// holds none; then the counter of those that begin is all there is to see.
var dynamoUpstream = Upstream{
	Path: "/metrics",
	Queued: Query{
		PromQL: firstOf(
			perInstance(metric("dynamo_frontend_queued_requests")),
			perInstance(metric("dynamo_frontend_stage_requests"))),
	},
	InFlight: Query{
		PromQL: firstOf(
			perInstance(metric("dynamo_frontend_active_requests")),
			perInstance(metric("dynamo_frontend_inflight_requests"))),
	},
	CountsInFlight: true,
	Arrivals:       perInstance(metric("dynamo_frontend_requests_started")),
	Prefixes:       []string{"dynamo_frontend_"},
}
