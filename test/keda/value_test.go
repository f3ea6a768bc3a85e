package keda

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	autoscaling "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"
)

// The guides' three examples, end to end: what the servers say, what KEDA hands
// to the HPA, and the replicas that come of it.
func TestValues(t *testing.T) {
	t.Parallel()
	scaler := startScaler(t, anyPort)
	for name, tc := range map[string]struct {
		engine   string
		fleet    []gauges
		value    string
		replicas int
	}{
		"vllm, 11 waiting and 9 running on one pod": {
			"vllm", []gauges{vllm(11, 9)}, "11", 3,
		},
		"vllm, 11 waiting and 9 running on three pods": {
			"vllm", []gauges{vllm(4, 3), vllm(0, 3), vllm(7, 3)}, "11", 3,
		},
		"vllm, nothing waits, but the work of four pods would fill two": {
			"vllm", []gauges{vllmFilled(0, 3, 0.4), vllmFilled(0, 3, 0.4), vllmFilled(0, 3, 0.4), vllmFilled(0, 3, 0.4)}, "10", 2,
		},
		"asr, 12 active": {
			"lightning-asr", []gauges{asr(5, 0, 0, 0), asr(4, 0, 0, 0), asr(3, 0, 0, 0)}, "12", 3,
		},
		"asr, the stream queue counts once": {
			"lightning-asr", []gauges{asr(4, 1, 0, 2), asr(3, 0, 1, 2), asr(1, 0, 0, 2)}, "12", 3,
		},
		"queue depth 25": {
			"queue-depth", []gauges{{"ai_request_queue_depth": 20}, {"ai_request_queue_depth": 5}}, "25", 5,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			metadata := trigger{"engine": tc.engine}.at(scaler.grpc, startFleet(t, tc.fleet...))
			k := newScaler(t, config(t, metadata))

			s := spec(t, k)
			require.True(t, strings.HasPrefix(s.Metric.Name, "s0-"), "the trigger's index precedes %q", s.Metric.Name)
			require.Nil(t, s.Metric.Selector)
			require.Equal(t, autoscaling.AverageValueMetricType, s.Target.Type)
			require.Equal(t, int64(5000), s.Target.AverageValue.MilliValue())

			settles(t, k, s.Metric.Name, tc.value, true)
			got, ok := read(t.Context(), k, s.Metric.Name)
			require.True(t, ok)
			require.Equal(t, tc.replicas, replicas(got.value, *s.Target.AverageValue))
		})
	}
}

// What runs keeps a fleet awake, though only what waits sizes it.
func TestWorkInFlightIsActivity(t *testing.T) {
	t.Parallel()
	scaler := startScaler(t, anyPort)
	servers := startFleet(t, vllm(0, 1))
	k := newScaler(t, config(t, trigger{"engine": "vllm"}.at(scaler.grpc, servers)))
	metric := spec(t, k).Metric.Name

	settles(t, k, metric, "0", true)
	servers[0].set(vllm(0, 0))
	settles(t, k, metric, "0", false)
}

// A fleet that does not change gives answers that do not, at whatever moment a
// scrape and an evaluation meet: an idle one stays idle, a busy one busy.
func TestSteadyFleetGivesSteadyAnswers(t *testing.T) {
	t.Parallel()
	scaler := startScaler(t, anyPort)
	for name, tc := range map[string]struct {
		pods    int
		waiting float64
		value   string
		active  bool
	}{
		"one idle pod":    {1, 0, "0", false},
		"one busy pod":    {1, 2, "2", true},
		"eight idle pods": {8, 0, "0", false},
		"eight busy pods": {8, 2, "16", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			servers := startFleet(t, slices.Repeat([]gauges{vllm(tc.waiting, tc.waiting)}, tc.pods)...)
			k := newPushScaler(t, config(t, trigger{"engine": "vllm"}.at(scaler.grpc, servers)))
			metric := spec(t, k).Metric.Name
			settles(t, k, metric, tc.value, tc.active)
			pushed := follow(t, k)

			want := resource.MustParse(tc.value)
			require.Never(t, func() bool {
				got, ok := read(context.Background(), k, metric)
				return !ok || got.value.Cmp(want) != 0 || got.active != tc.active
			}, steady, time.Millisecond)
			if !tc.active {
				require.Empty(t, pushed.activities(), "an idle fleet was woken")
			}
		})
	}
}

// steady is some 100 scrapes of each server.
const steady = 10 * time.Second

// KEDA sends a key that ends in FromEnv with the value that the container has. The scaler
// refuses the key by name.
func TestFromEnvIsRefused(t *testing.T) {
	t.Parallel()
	scaler := startScaler(t, anyPort)
	servers := startFleet(t, asr(12, 0, 0, 0))
	c := config(t, trigger{"engine": "lightning-asr", "targetFromEnv": "ASR_TARGET"}.at(scaler.grpc, servers))
	c.ResolvedEnv = map[string]string{"ASR_TARGET": "4"}
	_, _, err := newScaler(t, c).GetMetricsAndActivity(t.Context(), "s0-lightning-asr")
	require.ErrorContains(t, err, "targetFromEnv: values from the environment")
}

// KEDA up to 2.16 reads only the deprecated integers: they must come to the same
// replicas as the floats do, whatever the target.
func TestIntegersForOldKEDA(t *testing.T) {
	t.Parallel()
	scaler := startScaler(t, anyPort)
	servers := startFleet(t, vllm(4, 3), vllm(7, 3))
	for target, want := range map[string]int64{
		"5":    3,
		"2.5":  5,
		"0.5":  22,
		"4":    3,
		"1":    11,
		"3.7":  3,
		"11":   1,
		"10.9": 2,
		"100":  1,
	} {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			metadata := trigger{"engine": "vllm", "target": target}.at(scaler.grpc, servers)
			k := newScaler(t, config(t, metadata))
			s := spec(t, k)
			settles(t, k, s.Metric.Name, "11", true)
			got, ok := read(t.Context(), k, s.Metric.Name)
			require.True(t, ok)
			require.EqualValues(t, want, replicas(got.value, *s.Target.AverageValue), "with floats")

			specs, err := direct(t, scaler).GetMetricSpec(t.Context(), ref(t, metadata))
			require.NoError(t, err)
			require.Len(t, specs.MetricSpecs, 1)
			values, err := direct(t, scaler).GetMetrics(t.Context(), request(t, metadata, specs.MetricSpecs[0].MetricName))
			require.NoError(t, err)
			require.Len(t, values.MetricValues, 1)
			require.Equal(t, specs.MetricSpecs[0].MetricName, values.MetricValues[0].MetricName)
			size, value := specs.MetricSpecs[0].TargetSize, values.MetricValues[0].MetricValue
			require.Positive(t, size)
			require.Equal(t, want, (value+size-1)/size, "with the integers %d/%d", value, size)
		})
	}
}
