package push

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	demandv1 "github.com/inference-scaler/inference-scaler/proto/demand/v1"
)

// rawCodec sends bytes as they are.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error)   { return v.([]byte), nil }
func (rawCodec) Unmarshal(b []byte, v any) error { *v.(*[]byte) = b; return nil }
func (rawCodec) Name() string                    { return "proto" }

// wrapped wraps b as field n, level by level.
func wrapped(b []byte, fields ...protowire.Number) []byte {
	for _, n := range fields {
		b = protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), b)
	}
	return b
}

// One small request must not become gigabytes, with or without a token.
func TestNothingIsUnpackedThatIsTooMuch(t *testing.T) {
	// ExportMetricsServiceRequest.resource_metrics.scope_metrics.metrics.exponential_histogram.data_points: {}, 2 million times
	body := wrapped([]byte(strings.Repeat("\x0a\x00", MaxExport/2-64)), 10, 2, 2, 1)
	reports := NewServer(NewStore(Options{}), tokens(t))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer(append(reports.Options(), grpc.MaxRecvMsgSize(MaxExport))...)
	reports.RegisterOTLP(server)
	reports.Register(server)
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	allocated := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.TotalAlloc
	}
	export := func(ctx context.Context) error {
		var reply []byte
		return conn.Invoke(ctx, "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", body, &reply,
			grpc.ForceCodec(rawCodec{}), grpc.UseCompressor("gzip"))
	}
	known := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+asrToken)
	before := allocated()
	require.Equal(t, codes.Unauthenticated, status.Code(export(t.Context())))
	require.ErrorContains(t, export(known), "a message with more than 200000 nested messages")
	require.Less(t, (allocated()-before)>>20, uint64(96), "MiB")

	stream, err := demandv1.NewDemandServiceClient(conn).Report(known)
	require.NoError(t, err)
	require.NoError(t, stream.Send(queued(1, 1)))
	_, err = stream.Recv()
	require.NoError(t, err)
	require.NoError(t, stream.Send(&demandv1.ReportRequest{Samples: slices.Repeat([]*demandv1.Sample{{}}, maxNested+1)}))
	_, err = stream.Recv()
	require.ErrorContains(t, err, "a message with more than 200000 nested messages")

	post := func(format string, body []byte) int {
		r := httptest.NewRequest(http.MethodPost, "/v1/metrics", bytes.NewReader(body))
		r.Header.Set("Content-Type", format)
		r.Header.Set("Authorization", "Bearer "+asrToken)
		w := httptest.NewRecorder()
		reports.ServeOTLP(w, r)
		return w.Code
	}
	require.Equal(t, http.StatusRequestEntityTooLarge, post("application/x-protobuf", body))
	require.Equal(t, http.StatusRequestEntityTooLarge, post("application/json", []byte(`{"resourceMetrics":[`+strings.Repeat("{},", maxNested)+`{}]}`)))
	require.Equal(t, http.StatusOK, post("application/json", []byte(`{"resourceMetrics":[`+strings.Repeat("{},", 1000)+`{}]}`)))
}

// What is nested is counted without going along.
func TestNestedPartsAreRefused(t *testing.T) {
	var back []byte // the message, from its end
	for n, depth := 0, 0; depth < 100_000; depth++ {
		tag := byte(1<<3 | 2) // ArrayValue.values
		if depth%2 == 1 {
			tag = 5<<3 | 2 // AnyValue.array_value
		}
		head := binary.AppendUvarint([]byte{tag}, uint64(n))
		n += len(head)
		slices.Reverse(head)
		back = append(back, head...)
	}
	slices.Reverse(back)
	var err error
	var used runtime.MemStats
	done := make(chan struct{})
	go func() { // whose stack was small before
		defer close(done)
		err = withinBounds(back, &commonpb.AnyValue{})
		runtime.ReadMemStats(&used)
	}()
	<-done
	require.ErrorContains(t, err, "or nested more than 100 deep")
	require.Less(t, used.StackInuse>>20, uint64(8), "MiB of stack")
}
