package preset

// Hugging Face Text Generation Inference. Its series have no labels.
var tgi = Preset{
	Port:     80,
	Path:     "/metrics",
	Load:     total(metric("tgi_queue_size")),
	InFlight: total(metric("tgi_queue_size"), metric("tgi_batch_current_size")),
}
