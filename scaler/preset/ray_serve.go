package preset

// Ray Serve, read at the agent of each node, which is a pod: the queue shows where the
// handles are, and the processing where the replicas are. Ray has an autoscaler of its
// own, which decides on replicas within the pods that this one decides on.
var rayServe = Preset{
	Port: 8080,
	Path: "/metrics",
	Load: Query{
		PromQL: perPod(metric("ray_serve_deployment_queued_queries")),
		Needs:  []string{rayServed},
	},
	InFlight: Query{
		PromQL: perPod(series([]string{"ray_serve_deployment_queued_queries", "ray_serve_replica_processing_queries"})),
		Needs:  []string{rayServed},
	},
	Saturation:       Query{PromQL: "avg by (pod) (" + metric("ray_serve_replica_utilization_percent") + ") / 100"},
	SaturationTarget: 0.8,
}

// A node has one or the other, or both.
var rayServed = series([]string{"ray_serve_deployment_queued_queries", "ray_serve_replica_processing_queries"})
