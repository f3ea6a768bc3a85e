package preset

// NVIDIA Triton, and its TensorRT-LLM backend. The backend holds most of the requests, and
// exports them by type in a label. Triton itself does not export running requests, so without
// an inflightQuery the fleet never scales to zero.
var triton = Preset{
	Port: 8002,
	Path: "/metrics",
	Load: Query{
		PromQL: firstOf(
			perPod(metric("nv_trt_llm_request_metrics", `request_type="waiting"`)),
			perPod(metric("nv_inference_pending_request_count"))),
		Needs: []string{series([]string{"nv_trt_llm_request_metrics", "nv_inference_pending_request_count"})},
	},
}
