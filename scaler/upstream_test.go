package scaler

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/scaler/preset"
)

const apiServer = "10.0.1.1:7100"

// behindAPI is a fleet at zero replicas behind an API server that exports its queue.
var behindAPI = map[string]string{"engine": "lightning-asr", "upstream": "service/api:http", "hold": "0s"}

func queue(queued, arrived int) string {
	return fmt.Sprintf("demand_queued_requests %d\ndemand_inflight_requests %d\ndemand_requests_total %d\n", queued, queued, arrived)
}

// asleep puts a fleet of such a trigger to zero replicas.
func (w *world) asleep(metadata map[string]string) {
	w.cluster.mu.Lock()
	w.cluster.endpoints = []cluster.Endpoint{{Pod: "api-0", UID: "uid-api-0", IP: "10.0.1.1", Port: 7100}}
	w.cluster.mu.Unlock()
	w.cluster.declare(metadata)
	w.cluster.update(func(wl *cluster.Workload) { wl.Replicas, wl.Pods = 0, nil })
	w.pass(2 * time.Second)
}

func TestUpstreamWakesFromZero(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		api := w.network.add(apiServer, queue(0, 100))
		w.asleep(behindAPI)
		stream := w.streamIsActive(behindAPI)
		w.pass(10 * time.Second)
		require.Empty(t, stream.times(), "what arrived before nobody knows when")
		require.False(t, w.active(behindAPI))

		api.set(queue(11, 111))
		w.pass(300 * time.Millisecond)
		require.Len(t, stream.times(), 1, "at zero the upstream is read every 250 ms")
		require.Equal(t, 11.0, w.value(behindAPI))

		// The pod starts: what is queued sizes the fleet, and no pod is made up for.
		w.cluster.update(func(wl *cluster.Workload) {
			wl.Replicas, wl.Pods = 1, []cluster.Pod{pod("a", "10.0.0.1", false)}
		})
		w.pass(10 * time.Second)
		require.Equal(t, 11.0, w.value(behindAPI))
		require.True(t, w.active(behindAPI))

		// It takes 8 of the 11.
		w.network.add("10.0.0.1:9090", asr(8))
		api.set(queue(3, 111))
		w.cluster.update(func(wl *cluster.Workload) { wl.Pods = []cluster.Pod{pod("a", "10.0.0.1", true)} })
		for range 40 {
			w.pass(100 * time.Millisecond)
			require.Equal(t, 11.0, w.value(behindAPI), "nothing drops or doubles in the hand-over")
		}
	})
}

func TestARequestThatCameAndWentWakes(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		api := w.network.add(apiServer, queue(0, 100))
		w.asleep(behindAPI)
		stream := w.streamIsActive(behindAPI)
		api.set(queue(0, 101))
		w.pass(300 * time.Millisecond)
		require.Len(t, stream.times(), 1)
	})
}

func TestLostActivationIsRepeatedUnlessPaused(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		api := w.network.add(apiServer, queue(0, 0))
		w.asleep(behindAPI)
		stream := w.streamIsActive(behindAPI)
		api.set(queue(1, 1))
		w.pass(8 * time.Second)
		require.Len(t, stream.times(), 4, "at once, and after 1, 2 and 4 s")
		w.cluster.update(func(wl *cluster.Workload) { wl.Paused = true })
		w.pass(5 * time.Minute)
		require.Len(t, stream.times(), 4, "paused")
		w.cluster.update(func(wl *cluster.Workload) { wl.Paused = false })
		w.pass(2 * time.Second)
		require.Len(t, stream.times(), 5, "no longer")
		w.cluster.update(func(wl *cluster.Workload) {
			wl.Replicas, wl.Pods = 1, []cluster.Pod{pod("a", "10.0.0.1", false)}
		})
		w.pass(5 * time.Minute)
		require.Len(t, stream.times(), 5, "awake")
	})
}

func TestUpstreamUnknown(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		api := w.network.add(apiServer, queue(5, 5))
		api.fail()
		w.asleep(behindAPI)
		w.pass(time.Minute)
		require.False(t, w.active(behindAPI), "nothing known wakes nobody")
		require.True(t, w.recorder.has("UpstreamFault"))
		w.network.add("10.0.0.1:9090", asr(0))
		w.cluster.update(func(wl *cluster.Workload) {
			wl.Replicas, wl.Pods = 3, []cluster.Pod{pod("a", "10.0.0.1", true)}
		})
		w.pass(time.Minute)
		require.True(t, w.active(behindAPI), "and lets nobody sleep")
		require.Equal(t, 15.0, w.value(behindAPI), "nor shrink")
		w.network.heal(apiServer, queue(0, 5))
		w.pass(10 * time.Second)
		require.Equal(t, 0.0, w.value(behindAPI))
		require.False(t, w.active(behindAPI))
	})
}

func TestUpstreamSeriesAreNotTakenFromThePodsToo(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		metadata := map[string]string{
			"engine": "lightning-asr", "upstream": "service/api:http", "hold": "0s",
			"upstreamQuery": "sum(asr_stream_queue_depth)",
		}
		w.network.add(apiServer, "asr_stream_queue_depth 6\n")
		w.network.add("10.0.0.1:9090", "asr_active_requests 4\nasr_active_streams 0\nasr_batch_queue_depth 0\nasr_stream_queue_depth 6\n")
		w.asleep(metadata)
		w.cluster.update(func(wl *cluster.Workload) {
			wl.Replicas, wl.Pods = 1, []cluster.Pod{pod("a", "10.0.0.1", true)}
		})
		w.pass(5 * time.Second)
		require.Equal(t, 10.0, w.value(metadata))
	})
}

// upstreamCaptures maps each captured exposition of an upstream to the demand that it shows.
var upstreamCaptures = map[string]struct{ queued, inFlight float64 }{ // -1: not exported
	"demand":      {4, 13},
	"dynamo":      {7, 9},
	"envoy":       {2, 5},
	"epp":         {7, -1},
	"litellm":     {-1, 6},
	"redis":       {19, 22},
	"vllm-router": {-1, 6},
}

func TestUpstreamPresetsReadWhatIsExported(t *testing.T) {
	files, err := filepath.Glob("preset/testdata/upstream/*.prom")
	require.NoError(t, err)
	require.Len(t, files, len(upstreamCaptures))
	require.Len(t, preset.UpstreamNames(), len(upstreamCaptures))
	for _, name := range preset.UpstreamNames() {
		for counts, want := range map[string]float64{"queued": upstreamCaptures[name].queued, "inflight": upstreamCaptures[name].inFlight} {
			t.Run(name+"/"+counts, func(t *testing.T) {
				body, err := os.ReadFile("preset/testdata/upstream/" + name + ".prom")
				require.NoError(t, err)
				metadata := map[string]string{
					"engine": "vllm", "hold": "0s",
					"upstream": "service/api:http", "upstreamEngine": name, "upstreamCounts": counts,
				}
				inBubble(t, true, func(t *testing.T, w *world) {
					if want < 0 {
						_, err := w.client.GetMetricSpec(t.Context(), ref(metadata))
						other := map[string]string{"queued": "inflight", "inflight": "queued"}[counts]
						require.ErrorContains(t, err, "upstreamCounts: \""+counts+"\"; "+name+" reports only "+other+"; remove the key, or set an upstreamQuery")
						return
					}
					w.network.add(apiServer, string(body))
					w.asleep(metadata)
					require.Equal(t, want, w.value(metadata))
					require.True(t, w.active(metadata))
					e := w.evaluator.Explanations(func(string, string) bool { return true })[0]
					require.Empty(t, e.Faults)
					if u, _ := preset.LookupUpstream(name); u.CountsInFlight == (counts == "inflight") {
						golden(t, "preset/testdata/upstream/"+name+".golden", e)
					}
				})
			})
		}
	}
}

// Every counter of arrivals wakes when it has grown.
func TestUpstreamPresetsNoticeArrivals(t *testing.T) {
	for name, counter := range map[string]string{
		"demand":      "demand_requests_total 2051",
		"dynamo":      `dynamo_frontend_requests_started_total{endpoint="chat_completions",model="unknown_model",request_type="unary"} 4`,
		"envoy":       `envoy_cluster_upstream_cx_none_healthy{envoy_cluster_name="llm_chat"} 23`,
		"epp":         `llm_d_epp_flow_control_request_enqueue_duration_seconds_count{fairness_id="default-flow",outcome="NotYetFinalized",priority="0"} 1818`,
		"redis":       `redis_stream_entries_added_total{db="db0",stream="llm:stream"} 5230`,
		"vllm-router": `vllm:num_incoming_requests_total{model="bge-m3"} 17.0`,
	} {
		t.Run(name, func(t *testing.T) {
			body, err := os.ReadFile("preset/testdata/upstream/" + name + ".prom")
			require.NoError(t, err)
			require.Contains(t, string(body), counter)
			space := strings.LastIndex(counter, " ") + 1
			grown := strings.Replace(string(body), counter, counter[:space]+"9"+counter[space:], 1)
			inBubble(t, true, func(t *testing.T, w *world) {
				metadata := map[string]string{"engine": "vllm", "upstream": "service/api:http", "upstreamEngine": name, "activation": "30"}
				api := w.network.add(apiServer, string(body))
				w.asleep(metadata)
				require.False(t, w.active(metadata))
				api.set(grown)
				w.pass(time.Second)
				require.True(t, w.active(metadata))
			})
		})
	}
}

// KEDA asks every 5 minutes, and holds no stream. A declared trigger is kept all the same.
func TestSlowPollOfADeclaredTrigger(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		w.network.add("10.0.9.9:80", "demand_queued_requests 7\n")
		metadata := map[string]string{"engine": "lightning-asr", "upstream": "http://10.0.9.9:80", "target": "5"}
		w.cluster.endpoints = []cluster.Endpoint{{IP: "10.0.9.9", Port: 80}}
		w.cluster.declare(metadata)
		w.has(0)
		w.pass(time.Second)
		woken := false
		for range 12 {
			woken = woken || w.active(metadata)
			w.pass(5 * time.Minute)
		}
		require.True(t, woken, "7 wait for an hour")
	})
}

// An upstream exported 0 for a metric that the pods export as well, and died.
func TestDeadUpstreamHidesNoPod(t *testing.T) {
	m := map[string]string{"engine": "queue-depth", "port": "80", "hold": "0s", "upstream": "http://10.0.9.9:80", "upstreamQuery": "ai_request_queue_depth"}
	inBubble(t, true, func(t *testing.T, w *world) {
		up := w.network.add("10.0.9.9:80", "ai_request_queue_depth 0\n")
		a := w.network.add("10.0.0.1:80", "ai_request_queue_depth 0\n")
		w.cluster.endpoints = []cluster.Endpoint{{IP: "10.0.9.9", Port: 80}}
		w.cluster.declare(m)
		w.has(4, pod("a", "10.0.0.1", true))
		w.pass(3 * time.Second)
		up.fail()
		a.set("ai_request_queue_depth 50\n")
		w.pass(time.Minute)
		require.Equal(t, 50.0, w.value(m))
	})
}
