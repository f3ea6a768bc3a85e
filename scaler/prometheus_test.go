package scaler

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/metricsource"
)

const promAddress = "10.0.9.9:9090"

// promServer answers as a Prometheus does, by its own engine, from samples that a
// test sets. (A real one answers in test/e2e.)
type promServer struct {
	*server
	mu      sync.Mutex
	samples map[string]map[string]float64 // by pod and name; of no pod: ""
	broken  bool
	tokens  []string // that requests came with
}

func (w *world) prometheus() *promServer {
	p := &promServer{server: &server{}, samples: map[string]map[string]float64{}}
	w.network.serve(promAddress, p.server, p.answer)
	// Where it may be dialled is another test's.
	w.cluster.mu.Lock()
	defer w.cluster.mu.Unlock()
	w.cluster.endpoints = append(w.cluster.endpoints, cluster.Endpoint{IP: "10.0.9.9", Port: 9090})
	return p
}

func (p *promServer) answer(w http.ResponseWriter, req *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tokens = append(p.tokens, req.Header.Get("Authorization")+req.Header.Get("X-Scope-Orgid"))
	if p.broken {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	window := metricsource.NewWindow(time.Minute)
	for pod, all := range p.samples {
		target := window.Target(labels.FromStrings("namespace", "asr", "pod", pod))
		var points []metricsource.Point
		for name, v := range all {
			points = append(points, metricsource.Point{Series: target.Series(labels.FromStrings("__name__", name)), Value: v})
		}
		if err := target.Commit(time.Now(), points); err != nil {
			panic(err)
		}
	}
	query, err := metricsource.ParseQuery(req.FormValue("query"))
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"status":"error","errorType":"bad_data","error":%q}`, err.Error())
		return
	}
	result, err := query.Eval(req.Context(), window, time.Now())
	if err != nil {
		panic(err)
	}
	all := []any{}
	for _, e := range result.Elements {
		metric, err := parser.NewParser(parser.Options{}).ParseMetric(e.Labels)
		if err != nil {
			panic(err)
		}
		all = append(all, map[string]any{"metric": metric, "value": [2]any{1, strconv.FormatFloat(e.Value, 'g', -1, 64)}})
	}
	text, err := json.Marshal(all)
	if err != nil {
		panic(err)
	}
	_, _ = io.WriteString(w, `{"status":"success","data":{"resultType":"vector","result":`+string(text)+`}}`)
}

// has sets what the server has of a pod, by name; nil: nothing any more.
func (p *promServer) has(pod string, samples map[string]float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.samples, pod)
	if samples != nil {
		p.samples[pod] = samples
	}
}

func (p *promServer) breaks(broken bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = broken
}

func (p *promServer) cameWith() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tokens
}

func vllm(waiting, running float64) map[string]float64 {
	return map[string]float64{"vllm:num_requests_waiting": waiting, "vllm:num_requests_running": running, "vllm:kv_cache_usage_perc": 0, "vllm:prompt_tokens_total": 9}
}

func (w *world) has(replicas int, pods ...cluster.Pod) {
	w.cluster.update(func(wl *cluster.Workload) { wl.Replicas, wl.Pods = replicas, pods })
}

var ofPrometheus = map[string]string{"engine": "vllm", "prometheusAddress": "http://" + promAddress, "hold": "0s"}

func TestAnEngineByPrometheus(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		p := w.prometheus()
		p.has("a", vllm(7, 3))
		p.has("b", vllm(4, 3))
		p.has("stranger", vllm(100, 100))
		w.cluster.declare(ofPrometheus)
		w.has(2, pod("a", "10.0.0.1", true), pod("b", "10.0.0.2", true))
		w.pass(time.Second)
		require.Equal(t, 11.0, w.value(ofPrometheus), "of its own pods alone")
		require.True(t, w.active(ofPrometheus))
		require.NoError(t, w.evaluator.Ready())

		// A third pod becomes ready before Prometheus reads it: it counts as full.
		w.has(3, pod("a", "10.0.0.1", true), pod("b", "10.0.0.2", true), pod("c", "10.0.0.3", true))
		w.pass(6 * time.Second)
		require.Equal(t, 15.0, w.value(ofPrometheus))
		require.False(t, w.recorder.has("PodUnread"), "it has only just come")
		w.pass(3 * time.Minute)
		require.True(t, w.recorder.has("PodUnread"), "and by now somebody should look")
		p.has("c", vllm(0, 0))
		w.pass(6 * time.Second)
		require.Equal(t, 11.0, w.value(ofPrometheus))

		// A pod that Prometheus does not find any more keeps its last load, and the
		// target at least; once it is gone so is that, whatever Prometheus still says.
		p.has("b", nil)
		w.pass(6 * time.Second)
		require.Equal(t, 11.0, w.value(ofPrometheus), "its last sample is not stale yet")
		w.pass(30 * time.Second)
		require.Equal(t, 12.0, w.value(ofPrometheus))
		require.True(t, w.recorder.has("PodSilent"))
		p.has("b", vllm(50, 0))
		w.has(2, pod("a", "10.0.0.1", true), pod("c", "10.0.0.3", true))
		w.pass(6 * time.Second)
		require.Equal(t, 7.0, w.value(ofPrometheus))

		// In an outage, the pods are silent: the last samples stay, and c may carry as much
		// as its target.
		p.breaks(true)
		w.recorder.take("PodSilent")
		w.pass(20 * time.Second)
		require.Equal(t, 7.0, w.value(ofPrometheus), "the last samples are not stale yet")
		require.False(t, w.recorder.has("PodSilent"))
		w.pass(time.Hour)
		require.Equal(t, 10.0, w.value(ofPrometheus), "the 2 replicas there are")
		require.True(t, w.active(ofPrometheus))
		require.True(t, w.recorder.has("PodSilent"))
		p.breaks(false)
		p.has("a", vllm(0, 0))
		w.pass(6 * time.Second)
		require.Equal(t, 0.0, w.value(ofPrometheus))
		require.False(t, w.active(ofPrometheus))
	})
}

// A vLLM of several processes exports no gauges before its first request.
func TestAnIdleEngineByPrometheus(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		p := w.prometheus()
		p.has("a", map[string]float64{"vllm:cache_config_info": 1})
		w.cluster.declare(ofPrometheus)
		w.has(3, pod("a", "10.0.0.1", true))
		w.pass(6 * time.Second)
		require.Equal(t, 0.0, w.value(ofPrometheus))
		require.False(t, w.active(ofPrometheus))
		p.has("a", map[string]float64{"vllm:cache_config_info": 1, "vllm:prompt_tokens_total": 1})
		w.pass(6 * time.Second)
		require.Equal(t, 15.0, w.value(ofPrometheus), "it has served, and where its gauges are nobody knows")
		require.True(t, w.active(ofPrometheus))
	})
}

// A query of one's own may be about anything: it sizes, wakes, and sleeps.
func TestAQueryByPrometheusWakesFromZero(t *testing.T) {
	metadata := map[string]string{"query": "sum(queue)", "target": "5", "prometheusAddress": "http://" + promAddress, "interval": "1s", "hold": "0s"}
	inBubble(t, true, func(t *testing.T, w *world) {
		p := w.prometheus()
		w.cluster.declare(metadata)
		w.has(0)
		stream := w.streamIsActive(metadata)
		w.pass(5 * time.Second)
		require.Empty(t, stream.times())
		require.True(t, w.recorder.has("QueryFault"), "an empty result is no 0")
		p.has("", map[string]float64{"queue": 0})
		w.pass(5 * time.Second)
		require.False(t, w.active(metadata))
		require.Empty(t, stream.times())
		p.has("", map[string]float64{"queue": 12})
		w.pass(1100 * time.Millisecond)
		require.NotEmpty(t, stream.times())
		require.Equal(t, 12.0, w.value(metadata))

		w.has(1, pod("a", "10.0.0.1", false))
		w.pass(5 * time.Second)
		require.Equal(t, 12.0, w.value(metadata), "known, whatever the pods do")
		p.has("", nil)
		w.pass(5 * time.Second)
		require.Equal(t, 12.0, w.value(metadata), "what is missing is not 0")
		require.True(t, w.active(metadata))
		p.has("", map[string]float64{"queue": 0})
		w.pass(5 * time.Second)
		require.False(t, w.active(metadata))
	})
}

// An element of a pod that has just gone is no reason to wake; that of another
// workload's pod, such as an API server's, is.
func TestElementsOfPods(t *testing.T) {
	metadata := map[string]string{"query": "sum by (pod) (queue)", "target": "5", "prometheusAddress": "http://" + promAddress, "interval": "1s", "hold": "0s"}
	inBubble(t, true, func(t *testing.T, w *world) {
		p := w.prometheus()
		p.has("a", map[string]float64{"queue": 7})
		p.has("api", map[string]float64{"queue": 1})
		w.cluster.declare(metadata)
		w.has(1, pod("a", "10.0.0.1", true))
		w.pass(3 * time.Second)
		require.Equal(t, 8.0, w.value(metadata))
		p.has("api", map[string]float64{"queue": 0})
		w.has(0)
		w.pass(3 * time.Second)
		require.False(t, w.active(metadata))
		p.has("api", map[string]float64{"queue": 2})
		w.pass(3 * time.Second)
		require.True(t, w.active(metadata))
		require.Equal(t, 2.0, w.value(metadata))
	})
}

func TestPrometheusNeedsKubernetes(t *testing.T) {
	inBubble(t, false, func(t *testing.T, w *world) {
		_, err := w.client.IsActive(t.Context(), ref(ofPrometheus))
		require.ErrorContains(t, err, `prometheusAddress: "http://`+promAddress+`"; this scaler runs without Kubernetes`)
	})
}
