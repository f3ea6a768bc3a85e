package inference

import (
	"fmt"
	"os"
	"path/filepath"
)

// engine is how a kind of inference server shows what it does.
type engine struct {
	// capture is a body of a real server, one of those that the product's presets
	// are tested with.
	capture string
	port    int
	filter  filter
	// gauges replace the captured values of these metrics, histograms the
	// buckets, sums and counts of these.
	gauges     map[string]func(State) float64
	histograms map[string]measure
}

// filter is what a server makes of ?name[]=.
type filter int

const (
	ignores filter = iota // the whole body, as vLLM
	applies               // only these series, as Python's client
	empties               // an empty 200, as SGLang's registry
)

// measure is what a server measures of each request.
type measure int

const (
	queueTime  measure = iota // until its service began
	firstToken                // until its first token
	latency                   // until its end
	measures
)

var engines = map[string]engine{
	"lightning-asr": {
		capture: "lightning-asr.prom", port: 9090, filter: applies,
		gauges: map[string]func(State) float64{
			"asr_active_requests":    func(s State) float64 { return float64(s.Running) },
			"asr_batch_queue_depth":  func(s State) float64 { return float64(s.Waiting) },
			"asr_active_streams":     func(s State) float64 { return float64(s.Streams) },
			"asr_stream_queue_depth": func(s State) float64 { return float64(s.StreamQueue) },
			"asr_total_requests":     func(s State) float64 { return float64(s.Served) },
			"asr_failed_requests":    func(State) float64 { return 0 },
			"asr_gpu_utilization":    func(s State) float64 { return 100 * s.filled() },
		},
		histograms: map[string]measure{"asr_request_duration_seconds": latency},
	},
	"vllm": {
		capture: "vllm.prom", port: 8000, filter: ignores,
		gauges: map[string]func(State) float64{
			"vllm:num_requests_running":    func(s State) float64 { return float64(s.Running) },
			"vllm:num_requests_waiting":    func(s State) float64 { return float64(s.Waiting) },
			"vllm:kv_cache_usage_perc":     State.cache,
			"vllm:prompt_tokens_total":     func(s State) float64 { return promptTokens * float64(s.Served) },
			"vllm:generation_tokens_total": func(s State) float64 { return generatedTokens * float64(s.Served) },
		},
		histograms: map[string]measure{
			"vllm:time_to_first_token_seconds": firstToken,
			"vllm:e2e_request_latency_seconds": latency,
			"vllm:request_queue_time_seconds":  queueTime,
		},
	},
	"sglang": {
		capture: "sglang.prom", port: 30000, filter: empties,
		gauges: map[string]func(State) float64{
			"sglang:num_running_reqs":        func(s State) float64 { return float64(s.Running) },
			"sglang:num_queue_reqs":          func(s State) float64 { return float64(s.Waiting) },
			"sglang:token_usage":             State.cache,
			"sglang:prompt_tokens_total":     func(s State) float64 { return promptTokens * float64(s.Served) },
			"sglang:generation_tokens_total": func(s State) float64 { return generatedTokens * float64(s.Served) },
		},
		histograms: map[string]measure{
			"sglang:time_to_first_token_seconds": firstToken,
			"sglang:e2e_request_latency_seconds": latency,
			"sglang:queue_time_seconds":          queueTime,
		},
	},
	"dynamo": { // its frontend, with a worker behind each
		capture: "dynamo.prom", port: 8000, filter: ignores,
		gauges: map[string]func(State) float64{
			"dynamo_frontend_queued_requests":        func(s State) float64 { return float64(s.Waiting) },
			"dynamo_frontend_inflight_requests":      func(s State) float64 { return float64(s.Running + s.Waiting) },
			"dynamo_frontend_active_requests":        func(s State) float64 { return float64(s.Running + s.Waiting) },
			"dynamo_frontend_requests_started_total": func(s State) float64 { return float64(s.Running + s.Waiting + s.Served) },
		},
	},
	"queue-depth": {
		capture: "queue-depth.prom", port: 8000, filter: applies,
		gauges: map[string]func(State) float64{
			"ai_request_queue_depth": func(s State) float64 { return float64(s.Waiting) },
		},
	},
}

// Of an average request.
const (
	promptTokens    = 800
	generatedTokens = 250
)

// captures is the folder of the product's captured bodies.
var captures = filepath.Join("..", "..", "scaler", "preset", "testdata")

func loadEngines() (map[string]*exposition, error) {
	all := map[string]*exposition{}
	for name, e := range engines {
		text, err := os.ReadFile(filepath.Join(captures, e.capture))
		if err != nil {
			return nil, err
		}
		x, err := newExposition(string(text), e)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.capture, err)
		}
		all[name] = x
	}
	return all, nil
}
