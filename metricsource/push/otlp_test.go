package push

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/metric"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/grpc"
)

// An OpenTelemetry SDK sends as it is, over gRPC and over HTTP.
func TestOTLPFromTheSDK(t *testing.T) {
	s := NewStore(Options{})
	server := NewServer(s, tokens(t))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	overGRPC := grpc.NewServer()
	server.RegisterOTLP(overGRPC)
	go func() { _ = overGRPC.Serve(listener) }()
	defer overGRPC.Stop()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/metrics", server.ServeOTLP)
	overHTTP := httptest.NewServer(mux)
	defer overHTTP.Close()

	bearer := map[string]string{"authorization": "Bearer " + asrToken}
	for name, newExporter := range map[string]func() (sdk.Exporter, error){
		"grpc": func() (sdk.Exporter, error) {
			return otlpmetricgrpc.New(t.Context(), otlpmetricgrpc.WithEndpoint(listener.Addr().String()), otlpmetricgrpc.WithInsecure(),
				otlpmetricgrpc.WithHeaders(bearer), otlpmetricgrpc.WithCompressor("gzip"))
		},
		"http": func() (sdk.Exporter, error) {
			return otlpmetrichttp.New(t.Context(), otlpmetrichttp.WithEndpointURL(overHTTP.URL+"/v1/metrics"),
				otlpmetrichttp.WithHeaders(bearer), otlpmetrichttp.WithCompression(otlpmetrichttp.GzipCompression))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := watch(t, s)
			defer w.Close()
			exporter, err := newExporter()
			require.NoError(t, err)
			provider := sdk.NewMeterProvider(sdk.WithReader(sdk.NewPeriodicReader(exporter)), sdk.WithResource(resource.NewSchemaless(
				attribute.String("k8s.namespace.name", "asr"), attribute.String("k8s.deployment.name", "lightning-asr"),
				attribute.String("k8s.pod.name", "api-"+name),
			)))
			defer func() { require.NoError(t, provider.Shutdown(context.Background())) }()
			queue, err := provider.Meter("api").Int64UpDownCounter("demand.queued_requests")
			require.NoError(t, err)
			for _, model := range []string{"a", "b"} {
				queue.Add(t.Context(), 3, metric.WithAttributes(attribute.String("model", model)))
			}
			require.NoError(t, provider.ForceFlush(t.Context()))
			require.Equal(t, 6.0, w.demand(t)["api-"+name])
			queue.Add(t.Context(), -3, metric.WithAttributes(attribute.String("model", "a")))
			require.NoError(t, provider.ForceFlush(t.Context()))
			require.Equal(t, 3.0, w.demand(t)["api-"+name])
		})
	}
}

// exported is an export of one gauge at a moment.
func exported(namespace string, at uint64, name string, value float64) *collectorpb.ExportMetricsServiceRequest {
	attr := func(k, v string) *commonpb.KeyValue {
		return &commonpb.KeyValue{Key: k, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: v}}}
	}
	return &collectorpb.ExportMetricsServiceRequest{ResourceMetrics: []*metricspb.ResourceMetrics{{
		Resource: &resourcepb.Resource{Attributes: []*commonpb.KeyValue{
			attr("k8s.namespace.name", namespace), attr("service.name", "lightning-asr"), attr("k8s.pod.name", "api-0"),
		}},
		ScopeMetrics: []*metricspb.ScopeMetrics{{Metrics: []*metricspb.Metric{{Name: name, Data: &metricspb.Metric_Gauge{Gauge: &metricspb.Gauge{
			DataPoints: []*metricspb.NumberDataPoint{{TimeUnixNano: at, Value: &metricspb.NumberDataPoint_AsDouble{AsDouble: value}}},
		}}}}}},
	}}}
}

// A point that records nothing is no zero.
func TestOTLPWithoutAValueIsNoZero(t *testing.T) {
	for name, spoil := range map[string]func(*metricspb.NumberDataPoint){
		"no value": func(p *metricspb.NumberDataPoint) { p.Value = nil },
		"flagged so": func(p *metricspb.NumberDataPoint) {
			p.Flags = uint32(metricspb.DataPointFlags_DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK)
		},
	} {
		s := NewStore(Options{})
		w := watch(t, s)
		server := NewServer(s, nil)
		require.Nil(t, server.export(exported("asr", 10, "demand.queued_requests", 4), asr).GetPartialSuccess())
		nothing := exported("asr", 20, "demand.queued_requests", 0)
		spoil(nothing.GetResourceMetrics()[0].GetScopeMetrics()[0].GetMetrics()[0].GetGauge().GetDataPoints()[0])
		refused := server.export(nothing, asr).GetPartialSuccess()
		require.EqualValues(t, 1, refused.GetRejectedDataPoints(), name)
		require.Contains(t, refused.GetErrorMessage(), "demand.queued_requests: a point without a value", name)
		require.Equal(t, map[string]float64{"api-0": 4}, w.demand(t), name)
	}
}

func TestOTLPOverHTTPSaysWhatIsWrong(t *testing.T) {
	server := NewServer(NewStore(Options{}), tokens(t))
	post := func(token, format, encoding, body string) (int, string) {
		r := httptest.NewRequest(http.MethodPost, "/v1/metrics", strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Content-Type", format)
		r.Header.Set("Content-Encoding", encoding)
		reply := httptest.NewRecorder()
		server.ServeOTLP(reply, r)
		return reply.Code, reply.Body.String()
	}
	for _, tc := range []struct {
		token, format, encoding, body string
		code                          int
		says                          string
	}{
		{"nobody", "application/json", "", "{}", 401, "bearer token"},
		{asrToken, "text/plain", "", "{}", 415, "application/x-protobuf or application/json"},
		{asrToken, "application/json", "zstd", "{}", 415, "gzip or none"},
		{asrToken, "application/json", "gzip", "{}", 400, "gzip"},
		{asrToken, "application/json", "", "{", 400, "ExportMetricsServiceRequest"},
		{asrToken, "application/x-protobuf", "", "\xff", 400, "ExportMetricsServiceRequest"},
		{asrToken, "application/json", "", strings.Repeat(" ", MaxExport+1), 413, "more than"},
		{asrToken, "application/json", "", `{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"x","histogram":{}}]}]}]}`, 200, "wanted: a gauge or a sum"},
		{asrToken, "application/json", "", "{}", 200, "{}"},
	} {
		code, text := post(tc.token, tc.format, tc.encoding, tc.body)
		require.Equal(t, tc.code, code, text)
		require.Contains(t, text, tc.says)
	}
}
