package preset

// SGLang. With priority scheduling each gauge stands there for every priority
// and, under an empty priority, as their total. With metrics for all schedulers
// every rank of a tensor-parallel group repeats the group's numbers, as pipeline
// stages do; only data-parallel ranks have work of their own.
var sglang = Preset{
	Port:   30000,
	Path:   "/metrics",
	Target: 5,
	Load: Query{
		PromQL: perPod(sglangRanks(metric("sglang:num_queue_reqs", `priority=""`))),
		Needs:  []string{metric("sglang:num_queue_reqs")},
	},
	InFlight: Query{
		PromQL: perPod(sglangRanks(series([]string{
			"sglang:num_queue_reqs", "sglang:num_running_reqs", "sglang:num_grammar_queue_reqs",
			// Disaggregated: counted neither as queued nor as running.
			"sglang:num_prefill_bootstrap_queue_reqs", "sglang:num_prefill_prealloc_queue_reqs",
			"sglang:num_prefill_inflight_queue_reqs",
			"sglang:num_decode_prealloc_queue_reqs", "sglang:num_decode_transfer_queue_reqs",
		}, `priority=""`))),
		Needs: []string{metric("sglang:num_queue_reqs"), metric("sglang:num_running_reqs")},
	},
	Saturation:       Query{PromQL: "avg by (pod) (" + sglangRanks(metric("sglang:token_usage", `priority=""`)) + ")"},
	SaturationTarget: 0.8,
}

// sglangRanks takes the ranks that repeat each other as one.
func sglangRanks(selector string) string {
	return "max by (__name__, pod, model_name, engine_type, dp_rank) (" + selector + ")"
}
