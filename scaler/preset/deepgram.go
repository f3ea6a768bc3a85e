package preset

// Deepgram's engine. Nothing waits there; how much it takes at most it says itself, so
// that the load is what is taken of that: 0.8 on each is the target.
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
