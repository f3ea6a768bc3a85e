package scaler

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	"github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/inference-scaler/inference-scaler/scaler/explain"
)

var (
	onPods      = map[string]string{"scalerAddress": "scaler:9090", "engine": "lightning-asr", "hold": "0s"}
	onEndpoints = map[string]string{"engine": "lightning-asr", "endpoints": "a:9090,b:9090,c:9090", "hold": "0s"}
)

func TestEndpointsWithoutKubernetes(t *testing.T) {
	inBubble(t, false, func(t *testing.T, w *world) {
		w.network.add("a:9090", asr(5))
		w.network.add("b:9090", asr(4))
		c := w.network.add("c:9090", asr(3))
		require.Equal(t, 15.0, w.value(onEndpoints), "not read yet: the three there are stand")
		w.pass(2 * time.Second)
		require.Equal(t, 12.0, w.value(onEndpoints))
		require.True(t, w.active(onEndpoints))

		c.set(asr(30))
		w.pass(2 * time.Second)
		require.Equal(t, 39.0, w.value(onEndpoints))

		spec, err := w.client.GetMetricSpec(t.Context(), ref(onEndpoints))
		require.NoError(t, err)
		require.Equal(t, "lightning-asr", spec.GetMetricSpecs()[0].GetMetricName())
		require.Equal(t, 5.0, spec.GetMetricSpecs()[0].GetTargetSizeFloat())
		require.Equal(t, int64(5), spec.GetMetricSpecs()[0].GetTargetSize())
	})
}

func TestPodsOfTheWorkload(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		w.network.add("10.0.0.1:9090", asr(7))
		w.network.add("10.0.0.2:9090", asr(9))
		w.cluster.declare(onPods)
		w.cluster.update(func(wl *cluster.Workload) {
			wl.Replicas = 1
			wl.Pods = []cluster.Pod{pod("a", "10.0.0.1", true)}
		})
		w.pass(time.Second)
		require.Equal(t, 7.0, w.value(onPods), "warm before KEDA called")

		w.cluster.update(func(wl *cluster.Workload) {
			wl.Replicas = 2
			wl.Pods = append(wl.Pods, pod("b", "", false))
		})
		w.pass(time.Second)
		require.Equal(t, 7.0, w.value(onPods), "a pod that starts carries nothing")

		w.cluster.update(func(wl *cluster.Workload) { wl.Pods[1] = pod("b", "10.0.0.2", true) })
		w.pass(200 * time.Millisecond)
		require.Equal(t, 16.0, w.value(onPods), "read as soon as it has an address")

		w.cluster.update(func(wl *cluster.Workload) { wl.Pods = wl.Pods[:1] })
		w.pass(200 * time.Millisecond)
		require.Equal(t, 7.0, w.value(onPods), "gone with its samples")
	})
}

func TestOutageHoldsTheFleet(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		a, b := w.network.add("10.0.0.1:9090", asr(20)), w.network.add("10.0.0.2:9090", asr(2))
		w.cluster.declare(onPods)
		w.cluster.update(func(wl *cluster.Workload) {
			wl.Replicas = 5
			wl.Pods = []cluster.Pod{pod("a", "10.0.0.1", true), pod("b", "10.0.0.2", true)}
		})
		w.pass(time.Second)
		require.Equal(t, 22.0, w.value(onPods))
		a.fail()
		for range 120 {
			w.pass(time.Second)
			require.GreaterOrEqual(t, w.value(onPods), 22.0)
			require.True(t, w.active(onPods))
		}
		require.True(t, w.recorder.has("PodSilent"))
		b.fail()
		w.pass(time.Minute)
		require.GreaterOrEqual(t, w.value(onPods), 22.0)
		w.network.heal("10.0.0.1:9090", asr(1))
		w.network.heal("10.0.0.2:9090", asr(0))
		w.pass(10 * time.Second)
		require.Equal(t, 1.0, w.value(onPods))
	})
}

func TestRenamedMetricIsAFaultAndNotAZero(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		a := w.network.add("10.0.0.1:9090", asr(20))
		w.cluster.declare(onPods)
		w.cluster.update(func(wl *cluster.Workload) {
			wl.Replicas, wl.Pods = 4, []cluster.Pod{pod("a", "10.0.0.1", true)}
		})
		w.pass(2 * time.Second)
		require.Equal(t, 20.0, w.value(onPods))
		a.set("asr_requests_running 0\nasr_batch_queue_depth 0\n")
		w.pass(time.Minute)
		require.Equal(t, 20.0, w.value(onPods))
		require.True(t, w.active(onPods))
		require.True(t, w.recorder.has("NoSeries"))
		e := w.evaluator.Explanations(func(string, string) bool { return true })
		require.Contains(t, e[0].Faults[0], "exports no asr_active_requests (under any of its 2 names)")
	})
}

func TestTerminatingPods(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		a := w.network.add("10.0.0.1:9090", asr(3))
		w.network.add("10.0.0.2:9090", asr(1))
		w.cluster.declare(onPods)
		w.cluster.update(func(wl *cluster.Workload) {
			wl.Replicas = 2
			wl.Pods = []cluster.Pod{pod("a", "10.0.0.1", true), pod("b", "10.0.0.2", true)}
		})
		w.pass(time.Second)
		w.cluster.update(func(wl *cluster.Workload) { wl.Replicas, wl.Pods[0].Terminating = 1, true })
		w.pass(2 * time.Second)
		require.Equal(t, 4.0, w.value(onPods), "read until it vanishes")
		a.fail()
		w.pass(10 * time.Second)
		require.Equal(t, 1.0, w.value(onPods), "terminating and silent is gone")
	})
}

func TestNeverActiveAtZeroForALateRequest(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		w.network.add("10.0.0.1:9090", asr(3))
		w.cluster.declare(onPods)
		w.cluster.update(func(wl *cluster.Workload) {
			wl.Replicas, wl.Pods = 0, []cluster.Pod{pod("a", "10.0.0.1", true)}
			wl.Pods[0].Terminating = true
		})
		stream := w.streamIsActive(onPods)
		w.pass(time.Minute)
		require.False(t, w.active(onPods))
		require.Empty(t, stream.times())
	})
}

func TestNothingKnownIsUnavailable(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		w.cluster.unsynced = true
		_, err := w.client.GetMetricSpec(t.Context(), ref(onPods))
		require.NoError(t, err, "a function of the metadata alone")
		_, err = w.client.GetMetrics(t.Context(), &externalscaler.GetMetricsRequest{ScaledObjectRef: ref(onPods)})
		require.Equal(t, codes.Unavailable, status.Code(err))
		_, err = w.client.IsActive(t.Context(), ref(onPods))
		require.Equal(t, codes.Unavailable, status.Code(err))
		require.ErrorIs(t, w.evaluator.Ready(), cluster.ErrNotSynced)

		w.cluster.mu.Lock()
		w.cluster.unsynced = false
		w.cluster.mu.Unlock()
		w.cluster.update(func(wl *cluster.Workload) { wl.Replicas = 3 })
		w.pass(time.Second)
		require.Equal(t, 15.0, w.value(onPods), "three replicas, and nothing else known: they stand")
		require.True(t, w.active(onPods))
	})
}

func TestAnswersOutliveTheCluster(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		w.network.add("10.0.0.1:9090", asr(7))
		w.cluster.declare(onPods)
		w.cluster.update(func(wl *cluster.Workload) {
			wl.Replicas, wl.Pods = 1, []cluster.Pod{pod("a", "10.0.0.1", true)}
		})
		w.pass(time.Second)
		w.cluster.mu.Lock()
		w.cluster.unsynced = true
		w.cluster.mu.Unlock()
		w.cluster.changed("asr", "fleet")
		w.pass(time.Minute)
		require.Equal(t, 7.0, w.value(onPods))
	})
}

func TestWrongMetadata(t *testing.T) {
	inBubble(t, false, func(t *testing.T, w *world) {
		_, err := w.client.GetMetricSpec(t.Context(), ref(map[string]string{"engine": "vlm", "treshold": "5", "interval": "0"}))
		require.Equal(t, codes.InvalidArgument, status.Code(err))
		for _, part := range []string{`engine: "vlm"`, `unknown key "treshold"`, `interval: "0"`} {
			require.ErrorContains(t, err, part, "all faults at once")
		}
		_, err = w.client.IsActive(t.Context(), &externalscaler.ScaledObjectRef{ScalerMetadata: onEndpoints})
		require.Equal(t, codes.InvalidArgument, status.Code(err))
		_, err = w.client.IsActive(t.Context(), ref(map[string]string{"engine": "vllm"}))
		require.ErrorContains(t, err, "endpoints: missing; wanted: host:port,… for this scaler runs without Kubernetes")
		require.Zero(t, w.open())
	})
}

func TestManyFirstCallsOpenOneTrigger(t *testing.T) {
	inBubble(t, false, func(t *testing.T, w *world) {
		var calls sync.WaitGroup
		for range 50 {
			calls.Go(func() {
				reply, err := w.client.IsActive(t.Context(), ref(onEndpoints))
				if err != nil || !reply.GetResult() {
					t.Errorf("IsActive: %v, %v", reply, err)
				}
			})
		}
		calls.Wait()
		require.Equal(t, 1, w.open())
	})
}

func TestTriggersAreBounded(t *testing.T) {
	inBubble(t, false, func(t *testing.T, w *world) {
		for i := range 32 {
			w.value(map[string]string{"engine": "vllm", "endpoints": "a:1", "interval": "1m", "activation": strings.Repeat("0", i) + "1"})
		}
		_, err := w.client.IsActive(t.Context(), ref(map[string]string{"engine": "vllm", "endpoints": "b:1"}))
		require.Equal(t, codes.ResourceExhausted, status.Code(err))
		w.pass(30*time.Minute + time.Minute)
		require.Zero(t, w.open(), "what nobody calls for is forgotten")
	})
}

func TestTriggersComeAndGoWithTheirScaledObject(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		w.cluster.update(func(wl *cluster.Workload) { wl.Replicas = 1 })
		w.cluster.declare(onPods, map[string]string{"engine": "vllm", "targetFromEnv": "TARGET"})
		require.Equal(t, 1, w.open(), "the other one is refused")
		held := w.streamIsActive(map[string]string{"engine": "vllm", "target": "7"})
		w.value(map[string]string{"engine": "vllm", "target": "8"})
		require.Equal(t, 3, w.open())
		w.pass(2*time.Minute + time.Minute)
		require.Equal(t, 2, w.open(), "one is declared, the other called for; nobody asks for the third")

		stream := w.streamIsActive(onPods)
		edited := map[string]string{"engine": "lightning-asr", "target": "6"}
		w.cluster.declare(edited)
		w.pass(2*time.Minute + time.Minute)
		require.Equal(t, 3, w.open(), "a stream holds what it is about")
		w.cluster.delete()
		w.pass(time.Second)
		require.Zero(t, w.open())
		require.ErrorIs(t, stream.ended, io.EOF, "a clean end")
		require.ErrorIs(t, held.ended, io.EOF)
	})
}

func TestReadyAfterTheFirstPass(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		w.network.add("10.0.0.1:9090", asr(7))
		w.network.add("10.0.0.2:9090", hangs)
		w.cluster.declare(onPods)
		w.cluster.update(func(wl *cluster.Workload) {
			wl.Replicas = 2
			wl.Pods = []cluster.Pod{pod("a", "10.0.0.1", true), pod("b", "10.0.0.2", true)}
		})
		require.Error(t, w.evaluator.Ready())
		w.pass(time.Second)
		require.ErrorContains(t, w.evaluator.Ready(), "1 of 1 triggers have not been read yet")
		w.pass(3 * time.Second)
		require.NoError(t, w.evaluator.Ready(), "a target that fails has been read, too")
	})
}

func TestOldKEDAReadsWholeNumbers(t *testing.T) {
	for _, tc := range []struct {
		value, target float64
		replicas      int
		whole, wholeT int64
	}{
		{12, 5, 3, 12, 5},
		{0, 5, 0, 0, 5},
		{0.4, 0.1, 4, 4, 1},
		{10.5, 5, 3, 15, 5},
		{11, 5.5, 2, 12, 6},
	} {
		require.Equal(t, tc.whole, wholeValue(tc.value, tc.target, tc.replicas))
		require.Equal(t, tc.wholeT, wholeTarget(tc.target))
		require.Equal(t, int64(tc.replicas), (tc.whole+tc.wholeT-1)/tc.wholeT)
	}
}

func TestAPIAndMetrics(t *testing.T) {
	inBubble(t, false, func(t *testing.T, w *world) {
		w.network.add("a:9090", asr(5))
		w.network.add("b:9090", asr(4))
		w.value(onEndpoints)
		w.pass(2 * time.Second)

		get := func(path string) (int, []byte) {
			rec := httptest.NewRecorder()
			w.scaler.API().ServeHTTP(rec, httptest.NewRequestWithContext(context.Background(), "GET", path, nil))
			return rec.Code, rec.Body.Bytes()
		}
		code, body := get("/api/v1/why?namespace=asr&name=fleet")
		require.Equal(t, 200, code)
		var all []explain.Explanation
		require.NoError(t, json.Unmarshal(body, &all))
		require.Len(t, all, 1)
		e := all[0]
		require.Equal(t, 14.0, *e.Value, "9 on the two that answer, and the target for the third, which has not")
		require.Equal(t, []string{"answering", "answering", "not read yet"}, []string{e.Pods[0].State, e.Pods[1].State, e.Pods[2].State})
		require.Equal(t, 5.0, *e.Pods[0].Load)
		require.Nil(t, e.Pods[2].Load)
		require.Nil(t, e.Pods[2].AgeSeconds)
		require.Nil(t, e.InFlight, "unknown is null")
		require.Len(t, e.Queries, 2)
		require.Len(t, e.Steps, 2)

		code, body = get("/api/v1/triggers")
		require.Equal(t, 200, code)
		require.NotContains(t, string(body), `"promql"`)
		code, body = get("/api/v1/why?namespace=asr&name=other")
		require.Equal(t, 404, code)
		require.Contains(t, string(body), "no trigger of namespace")

		trigger := e.Trigger
		require.NoError(t, testutil.GatherAndCompare(w.registry, strings.NewReader(strings.ReplaceAll(`
# HELP inference_scaler_trigger_value The value that KEDA is given.
# TYPE inference_scaler_trigger_value gauge
inference_scaler_trigger_value{namespace="asr",scaledobject="fleet",trigger="TRIGGER"} 14
# HELP inference_scaler_trigger_decided_replicas The replicas that value over target come to.
# TYPE inference_scaler_trigger_decided_replicas gauge
inference_scaler_trigger_decided_replicas{namespace="asr",scaledobject="fleet",trigger="TRIGGER"} 3
# HELP inference_scaler_trigger_step_replicas What a rule of the present decision added to the replicas, or took from them; together they are what is decided.
# TYPE inference_scaler_trigger_step_replicas gauge
inference_scaler_trigger_step_replicas{namespace="asr",rule="absent",scaledobject="fleet",trigger="TRIGGER"} 1
inference_scaler_trigger_step_replicas{namespace="asr",rule="bound",scaledobject="fleet",trigger="TRIGGER"} 0
inference_scaler_trigger_step_replicas{namespace="asr",rule="capacity",scaledobject="fleet",trigger="TRIGGER"} 0
inference_scaler_trigger_step_replicas{namespace="asr",rule="follow",scaledobject="fleet",trigger="TRIGGER"} 0
inference_scaler_trigger_step_replicas{namespace="asr",rule="hold",scaledobject="fleet",trigger="TRIGGER"} 0
inference_scaler_trigger_step_replicas{namespace="asr",rule="latency",scaledobject="fleet",trigger="TRIGGER"} 0
inference_scaler_trigger_step_replicas{namespace="asr",rule="load",scaledobject="fleet",trigger="TRIGGER"} 2
inference_scaler_trigger_step_replicas{namespace="asr",rule="saturation",scaledobject="fleet",trigger="TRIGGER"} 0
inference_scaler_trigger_step_replicas{namespace="asr",rule="upstream",scaledobject="fleet",trigger="TRIGGER"} 0
# HELP inference_scaler_trigger_faults Faults of the present decision.
# TYPE inference_scaler_trigger_faults gauge
inference_scaler_trigger_faults{kind="BadValue",namespace="asr",scaledobject="fleet",trigger="TRIGGER"} 0
inference_scaler_trigger_faults{kind="LeaderFault",namespace="asr",scaledobject="fleet",trigger="TRIGGER"} 0
inference_scaler_trigger_faults{kind="NoSeries",namespace="asr",scaledobject="fleet",trigger="TRIGGER"} 0
inference_scaler_trigger_faults{kind="PodSilent",namespace="asr",scaledobject="fleet",trigger="TRIGGER"} 0
inference_scaler_trigger_faults{kind="PodUnread",namespace="asr",scaledobject="fleet",trigger="TRIGGER"} 1
inference_scaler_trigger_faults{kind="QueryFault",namespace="asr",scaledobject="fleet",trigger="TRIGGER"} 0
inference_scaler_trigger_faults{kind="UpstreamFault",namespace="asr",scaledobject="fleet",trigger="TRIGGER"} 0
`, "TRIGGER", trigger)), "inference_scaler_trigger_value", "inference_scaler_trigger_decided_replicas", "inference_scaler_trigger_step_replicas", "inference_scaler_trigger_faults"))
		problems, err := testutil.GatherAndLint(w.registry)
		require.NoError(t, err)
		require.Empty(t, problems)
	})
}

// The new pods load their model for longer than any stabilization: the busy fleet keeps its size.
func TestAllPodsReplaced(t *testing.T) {
	m := map[string]string{"engine": "vllm"}
	inBubble(t, true, func(t *testing.T, w *world) {
		w.cluster.declare(m)
		var pods []cluster.Pod
		for i := range 10 {
			ip := fmt.Sprintf("10.0.0.%d", i+1)
			w.network.add(ip+":8000", "vllm:num_requests_waiting 0.3\nvllm:num_requests_running 9\nvllm:kv_cache_usage_perc 0.9\n")
			pods = append(pods, pod(fmt.Sprint("old-", i), ip, true))
		}
		w.has(10, pods...)
		w.pass(time.Minute)
		require.Equal(t, 50.0, w.value(m))
		for i := range pods {
			pods[i] = pod(fmt.Sprint("new-", i), fmt.Sprintf("10.0.1.%d", i+1), false)
		}
		w.has(10, pods...) // loading their model
		w.pass(10 * time.Minute)
		require.Equal(t, 50.0, w.value(m))
	})
}

// A ScaledObject disappears from the cluster, and its last decision still goes to KEDA:
// the text must not deny that there is an answer.
func TestWhyOfAnOutdatedDecision(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		w.network.add("10.0.0.1:9090", asr(26))
		w.has(5, pod("a", "10.0.0.1", true))
		metadata := map[string]string{"engine": "lightning-asr", "hold": "0s"}
		w.cluster.declare(metadata)
		w.pass(5 * time.Second)
		w.cluster.mu.Lock()
		delete(w.cluster.workloads, cluster.NamespacedName{Namespace: "asr", Name: "fleet"})
		w.cluster.mu.Unlock()
		w.cluster.changed("asr", "fleet")
		w.pass(5 * time.Second)
		require.Equal(t, 26.0, w.value(metadata))
		var text strings.Builder
		require.NoError(t, explain.Text(&text, w.evaluator.Explanations(func(string, string) bool { return true })))
		require.NotContains(t, text.String(), "no decision:")
		require.Contains(t, text.String(), "outdated  no decision can be made now: ScaledObject asr/fleet: not found; KEDA gets the last one\n")
		require.Contains(t, text.String(), "decision  26/5: 6 replicas")
	})
}
