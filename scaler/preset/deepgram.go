package preset

// Deepgram's engine. It has no queue, and exports its active requests and their maximum. The
// preset's load is their ratio, with a target of 0.8.
var deepgram = Preset{
	Port:   9991,
	Path:   "/metrics",
	Target: 0.8,
	Load: Query{
		PromQL: perPod(metric("engine_active_requests")) + " / " + perPod(metric("engine_max_active_requests")),
		Needs:  []string{metric("engine_active_requests"), metric("engine_max_active_requests")},
	},
	InFlight: total(metric("engine_active_requests")),
}
