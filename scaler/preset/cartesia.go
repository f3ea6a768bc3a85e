package preset

// Cartesia's workers. A worker exports its load and its capacity in chunks. The preset's load
// is their ratio, with a target of 0.8. The API server has the queue, which an upstreamQuery
// can read.
var cartesia = Preset{
	Port:   8080,
	Path:   "/metrics",
	Target: 0.8,
	Load: Query{
		PromQL: perPod(metric("inferno_worker_load")) + " / " + perPod(metric("inferno_worker_capacity")),
		Needs:  []string{metric("inferno_worker_load"), metric("inferno_worker_capacity")},
	},
	InFlight: total(metric("inferno_worker_load")),
}
