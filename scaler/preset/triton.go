package preset

// NVIDIA Triton, and its TensorRT-LLM backend, which tells of requests by a label and
// holds most of them itself. Plain Triton does not say what it is working on: without
// an inflightQuery it never sleeps.
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
