package preset

// llama.cpp's server, with --metrics. Deferred requests wait for a slot.
var llamacpp = Preset{
	Port:     8080,
	Path:     "/metrics",
	Load:     total(metric("llamacpp:requests_deferred")),
	InFlight: total(metric("llamacpp:requests_deferred"), metric("llamacpp:requests_processing")),
}
