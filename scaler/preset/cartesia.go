package preset

// Cartesia's workers. They say themselves how many chunks they can work on, so that the
// load is what is taken of that: 0.8 on each is the target. The queue is its API
// server's, which upstreamQuery may read.
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
