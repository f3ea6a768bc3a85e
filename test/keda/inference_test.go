package keda

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// gauges are samples of an exposition: name, with labels if any, to value.
type gauges map[string]float64

// vllm is what one vLLM pod says while its KV cache is empty, so that the
// saturation brake has no part in the answer.
func vllm(waiting, running float64) gauges { return vllmFilled(waiting, running, 0) }

// vllmFilled is a vLLM pod whose KV cache is filled to that share.
func vllmFilled(waiting, running, cache float64) gauges {
	const labels = `{engine="0",model_name="llama"}`
	return gauges{
		"vllm:num_requests_waiting" + labels: waiting,
		"vllm:num_requests_running" + labels: running,
		"vllm:kv_cache_usage_perc" + labels:  cache,
	}
}

// asr is what one Lightning ASR pod says. Its stream queue lives in Redis, so
// that every pod reports the same one.
func asr(requests, streams, batchQueue, streamQueue float64) gauges {
	return gauges{
		"asr_active_requests":    requests,
		"asr_active_streams":     streams,
		"asr_batch_queue_depth":  batchQueue,
		"asr_stream_queue_depth": streamQueue,
		"asr_gpu_utilization":    0.5,
	}
}

// manner is how an inference server treats a scrape.
type manner int

const (
	answers manner = iota
	fails          // 500
	hangs          // accepts the request and never answers
)

// inference is one inference server on loopback.
type inference struct {
	address string

	mu      sync.Mutex
	samples gauges
	manner  manner
	server  *http.Server
	served  chan struct{} // closed when server has ended
}

// startInference serves samples at /metrics until the test ends.
func startInference(t *testing.T, samples gauges) *inference {
	t.Helper()
	i := &inference{address: freeAddress(t), samples: maps.Clone(samples)}
	i.open(t)
	t.Cleanup(i.close)
	return i
}

// startFleet starts one server for each of the expositions.
func startFleet(t *testing.T, samples ...gauges) fleet {
	t.Helper()
	var f fleet
	for _, s := range samples {
		f = append(f, startInference(t, s))
	}
	return f
}

// set replaces what the server says.
func (i *inference) set(samples gauges) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.samples = maps.Clone(samples)
}

func (i *inference) treat(m manner) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.manner = m
}

// open listens, again if the server was closed, at the same address.
func (i *inference) open(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", i.address)
	require.NoError(t, err)
	server := &http.Server{Handler: http.HandlerFunc(i.metrics)}
	served := make(chan struct{})
	i.mu.Lock()
	i.server, i.served = server, served
	i.mu.Unlock()
	go func() {
		defer close(served)
		_ = server.Serve(listener) // ends with ErrServerClosed
	}()
}

// close refuses connections from now on and drops those there are.
func (i *inference) close() {
	i.mu.Lock()
	server, served := i.server, i.served
	i.mu.Unlock()
	_ = server.Close()
	<-served
}

func (i *inference) metrics(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	m, samples := i.manner, maps.Clone(i.samples)
	i.mu.Unlock()
	switch {
	case r.URL.Path != "/metrics":
		http.NotFound(w, r)
		return
	case m == fails:
		http.Error(w, "CUDA error", http.StatusInternalServerError)
		return
	case m == hangs:
		<-r.Context().Done()
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	for _, series := range slices.Sorted(maps.Keys(samples)) {
		name, _, _ := strings.Cut(series, "{")
		fmt.Fprintf(w, "# TYPE %s gauge\n%s %g\n", name, series, samples[series])
	}
}

// fleet is the inference servers of one workload.
type fleet []*inference

// endpoints is the trigger's metadata key of that name.
func (f fleet) endpoints() string {
	var addresses []string
	for _, i := range f {
		addresses = append(addresses, i.address)
	}
	return strings.Join(addresses, ",")
}

// each does the same to every server.
func (f fleet) each(do func(*inference)) {
	for _, i := range f {
		do(i)
	}
}
