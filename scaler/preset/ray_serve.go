package preset

// Ray Serve, read from the agent of each Ray node, which is a pod. The nodes with handles
// export the queue, the nodes with replicas export the processing requests. Ray's own
// autoscaler sets the replicas within the pods that this scaler sizes.
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

// A node exports one of the two, or both.
var rayServed = series([]string{"ray_serve_deployment_queued_queries", "ray_serve_replica_processing_queries"})
