package scaler

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/scaler/explain"
	"github.com/inference-scaler/inference-scaler/scaler/preset"
)

// captures maps each captured exposition to what must come of it. Its golden
// file holds the whole explanation.
var captures = map[string]struct {
	engine         string
	load, inFlight float64 // -1: not known
	replicas       int
	active         bool
	trap           string
}{
	"lightning-asr":         {"lightning-asr", 12, 12, 3, true, "the guide's example"},
	"lightning-asr-streams": {"lightning-asr", 15, 15, 3, true, "streams and both queues count; the stream queue belongs to no pod"},
	"queue-depth":           {"queue-depth", 25, -1, 5, true, "the guide's example; what is running is not known, so it never sleeps"},
	"vllm":                  {"vllm", 11, 20, 3, true, "the guide's example: waiting sizes it, running keeps it awake"},
	"vllm-by-reason":        {"vllm", 11, 23, 3, true, "deferred is no congestion, but it is in flight; the sum is not counted again"},
	"vllm-idle":             {"vllm", 0, 0, 0, false, "no gauges before the first request: idle, not a fault"},
	"vllm-dp":               {"vllm", 11, 20, 3, true, "summed over data-parallel engines"},
	"sglang":                {"sglang", 11, 20, 3, true, "the guide's example"},
	"sglang-priority":       {"sglang", 11, 20, 3, true, "the total and each priority: a plain sum doubles"},
	"sglang-dp":             {"sglang", 11, 20, 3, true, "ranks of a tensor-parallel group repeat each other; data-parallel ones do not"},
	"dynamo":                {"dynamo", 11, 20, 3, true, "queued is part of in flight: never added"},
	"dynamo-idle":           {"dynamo", 0, 0, 0, false, "no series before the first request: idle, not a fault"},
	"tgi":                   {"tgi", 11, 20, 3, true, "no labels"},
	"triton":                {"triton", 11, -1, 3, true, "summed over models; what is running is not known, so it never sleeps"},
	"triton-trtllm":         {"triton", 11, -1, 3, true, "the backend holds the queue, selected by a label; Triton's own is empty"},
	"trtllm":                {"trtllm", 11, 20, 3, true, "the prefixed names"},
	"trtllm-old":            {"trtllm", 11, 20, 3, true, "older builds have no prefix"},
	"lmdeploy":              {"lmdeploy", 11, 20, 3, true, "a colon in the names"},
	"llamacpp":              {"llamacpp", 11, 15, 3, true, "deferred is waiting"},
	"ray-serve":             {"ray-serve", 11, 20, 3, true, "summed over handles and replicas of a node"},
	"nim":                   {"nim", 11, 20, 3, true, "no prefix"},
	"deepgram":              {"deepgram", 0.8, 96, 1, true, "summed over kinds; the engine's own limit makes it a share"},
	"cartesia":              {"cartesia", 0.9, 9, 2, true, "the worker's own capacity makes it a share"},
}

func TestPresetsReadWhatEnginesExport(t *testing.T) {
	files, err := filepath.Glob("preset/testdata/*.prom")
	require.NoError(t, err)
	require.Len(t, files, len(captures), "every exposition has its row, and the other way round")
	for name, want := range captures {
		t.Run(name, func(t *testing.T) {
			body, err := os.ReadFile("preset/testdata/" + name + ".prom")
			require.NoError(t, err)
			inBubble(t, false, func(t *testing.T, w *world) {
				w.network.add("pod:8000", string(body))
				metadata := map[string]string{"engine": want.engine, "endpoints": "pod:8000", "hold": "0s"}
				if p, _ := preset.Lookup(want.engine); p.Target == 0 {
					metadata["target"] = "5"
				}
				w.value(metadata)
				w.pass(3 * time.Second)

				all := w.evaluator.Explanations(func(string, string) bool { return true })
				require.Len(t, all, 1)
				e := all[0]
				require.NotNil(t, e.Demand, want.trap)
				require.Equal(t, want.load, *e.Demand, want.trap)
				if want.inFlight < 0 {
					require.Nil(t, e.InFlight, want.trap)
				} else {
					require.Equal(t, want.inFlight, *e.InFlight, want.trap)
				}
				require.Equal(t, want.replicas, *e.Replicas, want.trap)
				require.Equal(t, want.active, e.Active, want.trap)
				require.Empty(t, e.Faults, want.trap)
				golden(t, "preset/testdata/"+name+".golden", e)
			})
		})
	}
}

func TestEveryPresetHasACapture(t *testing.T) {
	captured := map[string]bool{}
	for _, c := range captures {
		captured[c.engine] = true
	}
	for _, engine := range preset.Names() {
		require.True(t, captured[engine], engine)
	}
}

// What an engine stops exporting, or never did, is a fault; served work shows
// that a silent gauge is no sign of idleness.
func TestPresetsMissTheirSeries(t *testing.T) {
	for name, body := range map[string]string{
		"vllm that has served, without gauges":        "vllm:prompt_tokens_total{engine=\"0\"} 7\nvllm:num_preemptions_total 0\n",
		"vllm that runs, and does not say what waits": "vllm:num_requests_running 9\n",
		"another engine": "tgi_queue_size 3\n",
		"nothing at all": "",
	} {
		inBubble(t, false, func(t *testing.T, w *world) {
			w.network.add("pod:8000", body)
			metadata := map[string]string{"engine": "vllm", "endpoints": "pod:8000"}
			w.value(metadata)
			w.pass(3 * time.Second)
			require.Equal(t, 5.0, w.value(metadata), name)
			require.True(t, w.active(metadata), name)
			require.True(t, w.recorder.has("NoSeries"), name)
		})
	}
}

var ages = regexp.MustCompile(`\d+(\.\d+)?(ms|s) ago`)

// golden compares an explanation, without what changes from run to run, with the
// file; UPDATE=1 writes it.
func golden(t *testing.T, path string, e explain.Explanation) {
	var b strings.Builder
	require.NoError(t, explain.Text(&b, []explain.Explanation{e}))
	got := ages.ReplaceAllString(b.String(), "AGE ago")
	if os.Getenv("UPDATE") != "" {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "make generate writes it")
	require.Equal(t, string(want), got, "if this is right, make generate writes it again")
}
