package preset

// SGLang. With priority scheduling it exports each gauge per priority, and the total with an
// empty priority. With metrics of all schedulers, the ranks of a tensor-parallel group and
// the pipeline stages all export the numbers of the group. Only data-parallel ranks have
// separate work.
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
			// With disaggregation: neither queued nor running includes these.
			"sglang:num_prefill_bootstrap_queue_reqs", "sglang:num_prefill_prealloc_queue_reqs",
			"sglang:num_prefill_inflight_queue_reqs",
			"sglang:num_decode_prealloc_queue_reqs", "sglang:num_decode_transfer_queue_reqs",
		}, `priority=""`))),
		Needs: []string{metric("sglang:num_queue_reqs"), metric("sglang:num_running_reqs")},
	},
	Saturation:       Query{PromQL: "avg by (pod) (" + sglangRanks(metric("sglang:token_usage", `priority=""`)) + ")"},
	SaturationTarget: 0.8,
}

// sglangRanks counts ranks with the same numbers once.
func sglangRanks(selector string) string {
	return "max by (__name__, pod, model_name, engine_type, dp_rank) (" + selector + ")"
}
