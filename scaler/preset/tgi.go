package preset

// Hugging Face Text Generation Inference. Its series have no labels.
var tgi = Preset{
	Port: 80,
	Path: "/metrics",
	Load: Query{
		PromQL: perPod(metric("tgi_queue_size")),
		Needs:  []string{metric("tgi_queue_size")},
	},
	InFlight: Query{
		PromQL: perPod(metric("tgi_queue_size")) + " + " + perPod(metric("tgi_batch_current_size")),
		Needs:  []string{metric("tgi_queue_size"), metric("tgi_batch_current_size")},
	},
}
