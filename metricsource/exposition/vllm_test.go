package exposition

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// vllmMetrics are the metrics of a real trigger for vLLM.
var vllmMetrics = []string{
	"vllm:num_requests_waiting",
	"vllm:num_requests_running",
	"vllm:kv_cache_usage_perc",
}

const (
	vllmLabels = `engine="0",model_name="meta-llama/Llama-3.1-8B-Instruct"`
	vllmLines  = 618
)

// vllmBody returns a body with the size and the shape of a vLLM server's: its names, its
// buckets, Python's float format, 618 lines in 60 KB. The load gauges are 3, 7 and 0.25.
func vllmBody() []byte {
	var b strings.Builder
	meta := func(name, kind string) {
		fmt.Fprintf(&b, "# HELP %s What it counts.\n# TYPE %s %s\n", name, name, kind)
	}
	for i, name := range []string{"python_gc_objects_collected_total", "python_gc_objects_uncollectable_total", "python_gc_collections_total"} {
		meta(name, "counter")
		for gen := range 3 {
			fmt.Fprintf(&b, "%s{generation=\"%d\"} %d.0\n", name, gen, 1000*i+17*gen)
		}
	}
	for i, name := range []string{"process_virtual_memory_bytes", "process_resident_memory_bytes", "process_start_time_seconds", "process_open_fds", "process_max_fds"} {
		meta(name, "gauge")
		fmt.Fprintf(&b, "%s %g\n", name, 1.7621452e+09*float64(i+1))
	}
	gauges := []string{"num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "engine_sleep_state", "lora_requests_info"}
	for i, name := range gauges {
		meta("vllm:"+name, "gauge")
		fmt.Fprintf(&b, "vllm:%s{%s} %s\n", name, vllmLabels, []string{"7.0", "3.0", "0.25", "0.0", "1.0"}[i])
	}
	for i, name := range []string{"prefix_cache_queries", "prefix_cache_hits", "num_preemptions", "prompt_tokens", "generation_tokens"} {
		meta("vllm:"+name, "counter")
		fmt.Fprintf(&b, "vllm:%s_total{%s} %d.0\nvllm:%s_created{%s} 1.7621452e+09\n", name, vllmLabels, 12345*(i+1), name, vllmLabels)
	}
	tokens := strings.Fields("1.0 2.0 5.0 10.0 20.0 50.0 100.0 200.0 500.0 1000.0 2000.0 5000.0 10000.0 20000.0 50000.0 100000.0 +Inf")
	seconds := strings.Fields("0.001 0.005 0.01 0.02 0.04 0.06 0.08 0.1 0.25 0.5 0.75 1.0 2.5 5.0 7.5 10.0 20.0 40.0 80.0 160.0 640.0 2560.0 +Inf")
	histogram := func(name string, buckets []string) {
		meta("vllm:"+name, "histogram")
		for i, le := range buckets {
			fmt.Fprintf(&b, "vllm:%s_bucket{%s,le=\"%s\"} %d.0\n", name, vllmLabels, le, 10*i)
		}
		fmt.Fprintf(&b, "vllm:%s_count{%s} 220.0\nvllm:%s_sum{%s} 91.24853515625\n", name, vllmLabels, name, vllmLabels)
		fmt.Fprintf(&b, "vllm:%s_created{%s} 1.7621452e+09\n", name, vllmLabels)
	}
	for _, name := range []string{"request_prompt_tokens", "request_generation_tokens", "iteration_tokens_total", "request_max_num_generation_tokens", "request_params_n", "request_params_max_tokens"} {
		histogram(name, tokens)
	}
	for _, name := range []string{
		"time_to_first_token_seconds", "inter_token_latency_seconds", "time_per_output_token_seconds", "e2e_request_latency_seconds",
		"request_queue_time_seconds", "request_inference_time_seconds", "request_prefill_time_seconds", "request_decode_time_seconds",
	} {
		histogram(name, seconds)
	}
	for i, name := range []string{"http_requests", "http_request_size_bytes", "http_response_size_bytes"} {
		meta(name, "counter")
		for _, handler := range []string{"/v1/chat/completions", "/v1/completions", "/v1/models", "/metrics"} {
			for _, status := range []string{"2xx", "4xx"} {
				fmt.Fprintf(&b, "%s_total{handler=\"%s\",method=\"POST\",status=\"%s\"} %d.0\n", name, handler, status, 31*i)
			}
		}
	}
	name := "http_request_duration_highr_seconds"
	meta(name, "histogram")
	for i := 0; bytes.Count([]byte(b.String()), []byte{'\n'}) < vllmLines-2; i++ {
		fmt.Fprintf(&b, "%s_bucket{handler=\"/v1/chat/completions\",le=\"%g\"} %d.0\n", name, 0.01*float64(i+1), i)
	}
	fmt.Fprintf(&b, "%s_count 67.0\n%s_sum 1.25\n", name, name)
	return []byte(b.String())
}

func TestVLLMBodyHasARealisticSize(t *testing.T) {
	body := vllmBody()
	require.Equal(t, vllmLines, bytes.Count(body, []byte{'\n'}))
	require.InDelta(t, 60_000, len(body), 2_000)
}
