package push

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"

	demandv1 "github.com/inference-scaler/inference-scaler/proto/demand/v1"
)

// An error repeats a part of the input. Protobuf refuses to encode a response whose text
// ends within a character.
func TestErrorsKeepCharactersWhole(t *testing.T) {
	long := "a" + strings.Repeat("é", 50)
	export := exported("asr", 10, "demand.queued_requests", 3)
	scope := export.GetResourceMetrics()[0].GetScopeMetrics()[0]
	scope.Metrics = append(scope.GetMetrics(), &metricspb.Metric{Name: long, Data: &metricspb.Metric_Histogram{Histogram: &metricspb.Histogram{}}})
	report := queued(1, 1)
	report.Samples[0].Name, report.Samples[0].Moment = long, 3 // a field between replicas

	s := NewStore(Options{})
	server, w := NewServer(s, tokens(t)), watch(t, s)
	post := func(handle http.HandlerFunc, body []byte) (int, string) {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(string(body)))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+asrToken)
		reply := httptest.NewRecorder()
		handle(reply, r)
		require.True(t, json.Valid(reply.Body.Bytes()), reply.Body)
		return reply.Code, reply.Body.String()
	}
	body, err := protojson.Marshal(export)
	require.NoError(t, err)
	code, text := post(server.ServeOTLP, body)
	require.Equal(t, http.StatusOK, code, text)
	require.Contains(t, text, "éé…: wanted: a gauge or a sum")
	require.Equal(t, map[string]float64{"api-0": 3}, w.demand(t), "the good point")
	body, err = protojson.Marshal(report)
	require.NoError(t, err)
	code, text = post(server.ServeHTTP, body)
	require.Equal(t, http.StatusBadRequest, code, text)
	require.Contains(t, text, "éé…: ")

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	overGRPC := grpc.NewServer()
	server.Register(overGRPC)
	server.RegisterOTLP(overGRPC)
	go func() { _ = overGRPC.Serve(listener) }()
	defer overGRPC.Stop()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+asrToken)
	scope.Metrics[0].GetGauge().DataPoints[0].TimeUnixNano = 20
	exportedTo, err := collectorpb.NewMetricsServiceClient(conn).Export(ctx, export)
	require.NoError(t, err)
	require.Contains(t, exportedTo.GetPartialSuccess().GetErrorMessage(), "éé…: wanted: a gauge or a sum")
	for name, forbidden := range map[string]bool{"a sample": false, "a namespace": true} {
		stream, err := demandv1.NewDemandServiceClient(conn).Report(ctx)
		require.NoError(t, err)
		if forbidden {
			report.Namespace = long
		} else {
			report.Namespace = "asr"
		}
		require.NoError(t, stream.Send(report))
		answer, err := stream.Recv()
		require.NoError(t, err, name)
		require.Contains(t, answer.GetError(), "é…", name)
	}
}
