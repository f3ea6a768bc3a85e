package otlp

import (
	"testing"

	"github.com/stretchr/testify/require"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	demandv1 "github.com/inference-scaler/inference-scaler/proto/demand/v1"
)

func TestReports(t *testing.T) {
	const pod = `{"key": "k8s.namespace.name", "value": {"stringValue": "asr"}},
		{"key": "k8s.deployment.name", "value": {"stringValue": "lightning-asr"}}, {"key": "k8s.pod.name", "value": {"stringValue": "api-0"}}`
	for name, tc := range map[string]struct {
		attributes, metrics string
		want                string   // the report; empty for none
		refused             []string // why
		points              int      // how many
	}{
		"a gauge": {
			pod, `{"name": "demand.queued_requests", "gauge": {"dataPoints": [{"timeUnixNano": "7", "asDouble": 1.5}]}}`,
			`{"namespace": "asr", "workload": "lightning-asr", "instance": "api-0",
				"samples": [{"name": "demand_queued_requests", "value": 1.5, "moment": "7"}]}`, nil, 0,
		},
		"sums": {
			pod, `{"name": "demand.requests", "sum": {"aggregationTemporality": 2, "isMonotonic": true, "dataPoints": [{"timeUnixNano": "8", "asInt": "3"}]}},
				{"name": "a-b_total", "sum": {"aggregationTemporality": 2, "isMonotonic": true, "dataPoints": [{"timeUnixNano": "7", "asInt": "4"}]}},
				{"name": "ü:9", "sum": {"aggregationTemporality": 2, "dataPoints": [{"timeUnixNano": "7", "asInt": "-5"}]}}`,
			`{"namespace": "asr", "workload": "lightning-asr", "instance": "api-0", "samples": [
				{"name": "demand_requests_total", "value": 3, "moment": "8"}, {"name": "a_b_total", "value": 4, "moment": "7"}, {"name": "_:9", "value": -5, "moment": "7"}]}`, nil, 0,
		},
		"labels": {
			pod, `{"name": "x", "gauge": {"dataPoints": [{"timeUnixNano": "7", "asInt": "1", "attributes": [
				{"key": "model.name", "value": {"stringValue": "a"}}, {"key": "i", "value": {"intValue": "-2"}}, {"key": "b", "value": {"boolValue": true}},
				{"key": "d", "value": {"doubleValue": 0.5}}, {"key": "list", "value": {"arrayValue": {}}}]}]}}`,
			`{"namespace": "asr", "workload": "lightning-asr", "instance": "api-0", "samples": [{"name": "x", "value": 1, "moment": "7",
				"labels": {"model_name": "a", "i": "-2", "b": "true", "d": "0.5", "list": ""}}]}`, nil, 0,
		},
		"other names of the workload and the instance": {
			`{"key": "k8s.namespace.name", "value": {"stringValue": "asr"}}, {"key": "service.name", "value": {"stringValue": "w"}}, {"key": "host.name", "value": {"stringValue": "h"}}`,
			`{"name": "x", "gauge": {"dataPoints": [{"timeUnixNano": "7", "asInt": "1"}]}}`,
			`{"namespace": "asr", "workload": "w", "instance": "h", "samples": [{"name": "x", "value": 1, "moment": "7"}]}`, nil, 0,
		},
		"a statefulset and a service's instance": {
			`{"key": "k8s.statefulset.name", "value": {"stringValue": "s"}}, {"key": "service.name", "value": {"stringValue": "w"}},
				{"key": "host.name", "value": {"stringValue": "h"}}, {"key": "service.instance.id", "value": {"stringValue": "i"}}`,
			`{"name": "x", "gauge": {"dataPoints": [{"timeUnixNano": "7", "asInt": "1"}]}}`,
			`{"workload": "s", "instance": "i", "samples": [{"name": "x", "value": 1, "moment": "7"}]}`, nil, 0,
		},
		"points that cannot be mapped": {
			pod, `{"name": "h", "histogram": {"dataPoints": [{}, {}]}}, {"name": "delta", "sum": {"aggregationTemporality": 1, "dataPoints": [{}, {}]}},
				{"name": "x", "gauge": {"dataPoints": [{"timeUnixNano": "7"}, {"asInt": "1"}, {"timeUnixNano": "7", "asInt": "1", "flags": 1}]}}`, "",
			[]string{"metric h: wanted: a gauge or a sum", "metric delta: wanted: cumulative temporality", "metric x: a point without a value", "metric x: a point without a time", "metric x: a point without a value"},
			6,
		},
	} {
		t.Run(name, func(t *testing.T) {
			export := &collectorpb.ExportMetricsServiceRequest{}
			require.NoError(t, protojson.Unmarshal([]byte(`{"resourceMetrics": [{"resource": {"attributes": [`+tc.attributes+`]}, "scopeMetrics": [{"metrics": [`+tc.metrics+`]}]}, {}]}`), export))
			points, refused := 0, []string(nil)
			got := Reports(export, func(n int, err error) {
				points, refused = points+n, append(refused, err.Error())
			})
			require.Equal(t, tc.refused, refused)
			require.Equal(t, tc.points, points)
			if tc.want == "" {
				require.Empty(t, got)
				return
			}
			want := &demandv1.ReportRequest{}
			require.NoError(t, protojson.Unmarshal([]byte(tc.want), want))
			require.Len(t, got, 1)
			require.True(t, proto.Equal(want, got[0]), got[0])
		})
	}
}
