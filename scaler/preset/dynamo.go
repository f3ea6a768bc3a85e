package preset

// NVIDIA Dynamo's frontend. Requests in flight include the queued ones, so the two are not
// added. Newer versions export the queue as stage_requests: the stages before a worker
// responds. Before its first request a frontend exports neither.
var dynamo = Preset{
	Port:   8000,
	Path:   "/metrics",
	Target: 5,
	Load: Query{
		PromQL: firstOf(
			perPod(metric("dynamo_frontend_queued_requests")),
			perPod(metric("dynamo_frontend_stage_requests"))),
		Needs: []string{series([]string{"dynamo_frontend_queued_requests", "dynamo_frontend_stage_requests"})},
	},
	InFlight: Query{
		PromQL: firstOf(
			perPod(metric("dynamo_frontend_inflight_requests")),
			perPod(metric("dynamo_frontend_active_requests"))),
		Needs: []string{series([]string{"dynamo_frontend_inflight_requests", "dynamo_frontend_active_requests"})},
	},
	Prefixes: []string{"dynamo_frontend_"},
	Served:   metric("dynamo_frontend_requests"),
}
