package demo

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	"github.com/inference-scaler/inference-scaler/scaler/sim"
)

// scrape reads a pod's metrics through the demo's network.
func scrape(ctx context.Context, d *Demo, ip string) (map[string]*dto.MetricFamily, error) {
	transport := &http.Transport{DialContext: d.DialContext, DisableKeepAlives: true}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(ip, "9090")+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %s", resp.Status)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	return parser.TextToMetricFamilies(resp.Body)
}

// naive is a scaler that reads every pod in each call.
type naive struct {
	scripted
	demo *Demo
	fail func() bool
}

func (n *naive) GetMetrics(ctx context.Context, r *pb.GetMetricsRequest) (*pb.GetMetricsResponse, error) {
	if n.fail != nil && n.fail() {
		return nil, status.Error(codes.Unavailable, "down")
	}
	w, err := n.demo.Cluster().Workload(r.GetScaledObjectRef().GetNamespace(), r.GetScaledObjectRef().GetName())
	if err != nil {
		return nil, status.Error(codes.NotFound, err.Error())
	}
	load := 0.0
	for _, p := range w.Pods {
		if p.IP == "" {
			continue
		}
		families, err := scrape(ctx, n.demo, p.IP)
		if err != nil {
			continue // the pod may have ended
		}
		for _, name := range []string{"asr_active_requests", "asr_active_streams", "asr_batch_queue_depth", "asr_stream_queue_depth"} {
			load += families[name].GetMetric()[0].GetGauge().GetValue()
		}
	}
	return &pb.GetMetricsResponse{MetricValues: []*pb.MetricValue{{MetricName: r.GetMetricName(), MetricValueFloat: load}}}, nil
}

// newNaiveDemo returns a demo with a naive scaler over TCP.
func newNaiveDemo(t *testing.T, s Scenario) (*Demo, *naive) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	demo, err := New(s, listener.Addr().String())
	require.NoError(t, err)
	scaler := &naive{demo: demo}
	scaler.begun = time.Now()
	server := grpc.NewServer()
	pb.RegisterExternalScalerServer(server, scaler)
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() { server.Stop(); wg.Wait() })
	return demo, scaler
}

// fast is a scenario in which a replica is ready 70 ms after its creation.
func fast(phases ...sim.Phase) Scenario {
	s := DefaultScenario()
	s.Speed = 100
	s.Replicas, s.Min = 2, 1
	s.Phases = phases
	window := int32(15)
	s.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleDown: &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: &window}}
	s.Shape.ModelLoad = 5 * time.Second
	return s
}

func TestRun(t *testing.T) {
	demo, scaler := newNaiveDemo(t, fast(phase("quiet", 15*time.Second, 2), phase("burst", time.Hour, 11)))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()

	var changes atomic.Int64
	watching, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = demo.Cluster().Run(watching, func(ns, name string) {
			if ns == "speech" && name == "lightning-asr" {
				changes.Add(1)
			}
		}, func() {})
	})
	var frames []Frame
	summary, err := demo.Run(ctx, Options{
		OnFrame: func(f Frame) {
			if frames = append(frames, f); f.Ready > 2 { // a replica of the scale-up is ready
				cancel()
			}
		},
		Explain: func(string) (Explanation, bool) { return Explanation{}, false },
	})
	stop()
	wg.Wait()
	require.ErrorIs(t, err, context.Canceled, "no scale-up in time")
	require.True(t, summary.Decided)
	require.Positive(t, summary.DecisionDelay)
	require.True(t, summary.Scaled)
	require.Greater(t, summary.Stats.Peak, 2)
	require.Equal(t, summary.Stats.Arrived, summary.Stats.Served+summary.Stats.Load())
	require.Positive(t, summary.Stats.Served)
	require.Greater(t, changes.Load(), int64(1))
	require.NotEmpty(t, scaler.callTimes("IsActive"))
	require.Len(t, scaler.callTimes("StreamIsActive"), 3, "one for each workload")

	last := frames[len(frames)-1]
	require.Equal(t, "burst", last.Phase)
	require.Equal(t, last.Load, last.Active+last.Waiting)
	require.NotEmpty(t, last.HPA)
	require.EqualValues(t, 5, last.Target)
	require.Positive(t, last.Value)

	_, err = scrape(t.Context(), demo, "10.244.0.3")
	require.ErrorContains(t, err, "no pod has the IP", "all servers have ended")
}

func TestRunKeepsReplicasOnErrors(t *testing.T) {
	// The load is small: with a metric, the HPA would remove the second replica.
	demo, scaler := newNaiveDemo(t, fast(phase("quiet", 5*time.Second, 0.1), phase("less quiet", 35*time.Second, 0.2)))
	var down atomic.Bool
	scaler.fail = down.Load
	var last Frame
	summary, err := demo.Run(t.Context(), Options{OnFrame: func(f Frame) {
		down.Store(true) // after the first response, only errors
		last = f
	}})
	require.NoError(t, err)
	require.True(t, summary.Complete)
	require.Equal(t, 40*time.Second, last.Elapsed.Truncate(40*time.Second))
	require.Equal(t, 2, summary.Stats.Peak)
	require.Equal(t, 2, summary.Stats.Replicas)
	require.False(t, summary.Decided)
	require.Contains(t, last.HPA, "keeps 2: FailedGetExternalMetric")
	require.Contains(t, last.Rule, "down")
	require.Contains(t, summary.String(), "did not request more replicas")
}

func TestRunEndsWithItsContext(t *testing.T) {
	s := fast(phase("", time.Hour, 1))
	demo, _ := newNaiveDemo(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	summary, err := demo.Run(ctx, Options{
		OnFrame: func(Frame) { cancel() },
		Explain: func(string) (Explanation, bool) { return Explanation{Replicas: 3, Rule: "load", At: time.Now()}, true },
	})
	require.ErrorIs(t, err, context.Canceled)
	require.False(t, summary.Complete)
	require.Contains(t, summary.String(), "interrupted")

	demo, scaler := newNaiveDemo(t, s)
	scaler.fail = func() bool { return true }
	ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err = demo.Run(ctx, Options{})
	require.ErrorContains(t, err, "no response")
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestInvalidScenario(t *testing.T) {
	_, err := New(Scenario{Workload: Workload{Min: 2, Max: 1}, Speed: -1}, "127.0.0.1:1")
	for _, part := range []string{"speed: -1; wanted: a number from 0.1 to 1000", "phases: ", "minimum of 2 and maximum of 1 replicas", "slots: 0; wanted: ", "target: 0; wanted: ", "sync: 0s"} {
		require.ErrorContains(t, err, part)
	}
}

func TestMetadata(t *testing.T) {
	s := DefaultScenario()
	require.Equal(t, map[string]string{
		"scalerAddress": "localhost:9090", "engine": "lightning-asr", "target": "5", "port": "9090",
		"interval": "100ms", "hold": "1.333s", "staleAfter": "1s",
		"upstream": "service/api-server:http", "upstreamQuery": "sum(demand_queued_requests)",
	}, s.Metadata(s.Workload, "localhost:9090"))
	require.Equal(t, map[string]string{"scalerAddress": "localhost:9090", "follow": "lightning-asr", "ratio": "2"}, s.Metadata(s.Others[1], "localhost:9090"))
	s.Speed = 1
	m := s.Metadata(s.Workload, "localhost:9090")
	require.Equal(t, []string{"1s", "20s", "5s"}, []string{m["interval"], m["hold"], m["staleAfter"]})
}

func TestCluster(t *testing.T) {
	demo, err := New(fast(phase("quiet", time.Minute, 1)), "localhost:9090")
	require.NoError(t, err)
	c := demo.Cluster()
	require.True(t, c.Synced())
	o, err := c.ScaledObject("speech", "lightning-asr")
	require.NoError(t, err)
	require.Len(t, c.ScaledObjects(), 3)
	require.Equal(t, o, c.ScaledObjects()[0])
	require.True(t, o.Triggers[0].Push)
	o.Triggers[0].Metadata["engine"] = "other"
	again, err := c.ScaledObject("speech", "lightning-asr")
	require.NoError(t, err)
	require.Equal(t, "lightning-asr", again.Triggers[0].Metadata["engine"], "callers share no map")

	w, err := c.Workload("speech", "lightning-asr")
	require.NoError(t, err)
	require.Len(t, w.Pods, 2)
	w.Pods = nil
	require.Equal(t, cluster.Workload{
		Namespace: "speech", ScaledObject: "lightning-asr", Kind: "Deployment", Name: "lightning-asr",
		Replicas: 2, MinReplicas: 1, MaxReplicas: 12,
		Template: &cluster.PodTemplate{Requests: cluster.Resources{"nvidia.com/gpu": 1, "pods": 1}},
	}, w)
	inv, err := c.Inventory()
	require.NoError(t, err)
	require.Len(t, inv.Workloads, 3)
	require.Equal(t, cluster.Resources{"nvidia.com/gpu": 3}, inv.Nodes[0].Held, "one of each model")
	require.Equal(t, cluster.Resources{"nvidia.com/gpu": 1}, inv.Nodes[1].Held)
	_, err = c.Workload("speech", "other")
	require.ErrorIs(t, err, cluster.ErrNotFound)
	_, err = c.ScaledObject("other", "lightning-asr")
	require.ErrorIs(t, err, cluster.ErrNotFound)
}
