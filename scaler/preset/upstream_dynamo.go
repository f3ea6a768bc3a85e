package preset

// NVIDIA Dynamo's frontend keeps a request in its queue until the first response of a worker.
// A queued request may therefore be on a worker already, so only work in flight can be
// compared with that of the workers. Without workers the frontend rejects requests, and only
// the counter of started requests shows demand.
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
