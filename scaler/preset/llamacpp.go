package preset

// llama.cpp's server, with --metrics. What waits for a slot is deferred.
var llamacpp = Preset{
	Port: 8080,
	Path: "/metrics",
	Load: Query{
		PromQL: perPod(metric("llamacpp:requests_deferred")),
		Needs:  []string{metric("llamacpp:requests_deferred")},
	},
	InFlight: Query{
		PromQL: perPod(metric("llamacpp:requests_deferred")) + " + " + perPod(metric("llamacpp:requests_processing")),
		Needs:  []string{metric("llamacpp:requests_deferred"), metric("llamacpp:requests_processing")},
	},
}
