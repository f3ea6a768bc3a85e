package scaler

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	"github.com/inference-scaler/inference-scaler/scaler/evaluator"

	"github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"github.com/inference-scaler/inference-scaler/metricsource/scrape"
)

// raw sends bytes as they are, in the name of protobuf.
type raw struct{}

func (raw) Name() string { return "proto" }

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

var _ encoding.CodecV2 = raw{}

// called serves a scaler over gRPC in memory, for a fuzzer's process.
func called(f *testing.F, s *Scaler) *grpc.ClientConn {
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	s.Register(server)
	go func() { _ = server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///scaler", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	require.NoError(f, err)
	f.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
	})
	return conn
}

// FuzzCalls sends arbitrary bytes as a call of KEDA's service. It is answered, or refused
// with a code that names the party at fault. The next valid call is answered.
func FuzzCalls(f *testing.F) {
	methods := externalscaler.ExternalScaler_ServiceDesc
	honest := map[string]string{"engine": "vllm", "endpoints": "127.0.0.1:1", "interval": "1m"}
	message := func(m proto.Message) []byte {
		b, err := proto.Marshal(m)
		require.NoError(f, err)
		return b
	}
	for method := range byte(len(methods.Methods) + len(methods.Streams)) {
		f.Add(method, message(ref(honest)))
		f.Add(method, message(&externalscaler.GetMetricsRequest{MetricName: "m", ScaledObjectRef: ref(map[string]string{"query": "sum(up)", "target": "-1", "endpoints": "x", "upstream": "service/a:b"})}))
		f.Add(method, []byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f})
		f.Add(method, []byte{})
	}
	var conns []*grpc.ClientConn
	for _, withCluster := range []bool{false, true} {
		opts := evaluator.Options{Scraper: scrape.New(scrape.Options{})} // it does not run: nothing is dialled
		if withCluster {
			opts.Cluster = &fakeCluster{workloads: map[cluster.NamespacedName]cluster.Workload{}, triggers: map[cluster.NamespacedName][]map[string]string{}}
		}
		conn := called(f, New(evaluator.New(opts)))
		conns = append(conns, conn)
	}
	f.Fuzz(func(t *testing.T, method byte, request []byte) {
		conn := conns[method>>7]
		n := int(method&0x7f) % (len(methods.Methods) + len(methods.Streams))
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		var err error
		if n < len(methods.Methods) {
			var reply []byte
			err = conn.Invoke(ctx, "/"+methods.ServiceName+"/"+methods.Methods[n].MethodName, &request, &reply, grpc.ForceCodecV2(raw{}))
		} else {
			err = open(ctx, conn, "/"+methods.ServiceName+"/"+methods.Streams[n-len(methods.Methods)].StreamName, request)
		}
		known := map[codes.Code]bool{codes.OK: true, codes.InvalidArgument: true, codes.ResourceExhausted: true, codes.Unavailable: true}
		if code := status.Code(err); !known[code] {
			// gRPC's own code for bytes that are no message.
			require.Equal(t, codes.Internal, code, err)
			require.ErrorContains(t, err, "unmarshal")
			require.False(t, is(request, &externalscaler.GetMetricsRequest{}) && is(request, &externalscaler.ScaledObjectRef{}), "%v", err)
		}
		_, err = externalscaler.NewExternalScalerClient(conns[0]).IsActive(ctx, ref(honest))
		require.NoError(t, err)
	})
}

func is(request []byte, m proto.Message) bool { return proto.Unmarshal(request, m) == nil }

// open opens a stream, and leaves it a moment later.
func open(ctx context.Context, conn *grpc.ClientConn, method string, request []byte) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Millisecond)
	defer cancel()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method, grpc.ForceCodecV2(raw{}))
	if err == nil {
		err = errors.Join(stream.SendMsg(&request), stream.CloseSend())
	}
	for err == nil {
		var reply []byte
		err = stream.RecvMsg(&reply)
	}
	if errors.Is(err, io.EOF) || status.Code(err) == codes.DeadlineExceeded {
		return nil
	}
	return err
}
