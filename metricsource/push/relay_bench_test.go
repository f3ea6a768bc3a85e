package push

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/inference-scaler/inference-scaler/metricsource"
	demandv1 "github.com/inference-scaler/inference-scaler/proto/demand/v1"
)

// BenchmarkEdge measures the time from a report to a window of replica A: of a report at A
// itself, and of one at its peer B. Nothing happens for 10 ms before each report, because
// an edge comes to processes that are idle.
func BenchmarkEdge(b *testing.B) {
	known := tokens(b)
	replica := func() (*Store, string) {
		s := NewStore(Options{})
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(b, err)
		reports := NewServer(s, known)
		server := grpc.NewServer(reports.Options()...)
		reports.Register(server)
		go func() { _ = server.Serve(listener) }()
		b.Cleanup(server.Stop)
		return s, listener.Addr().String()
	}
	storeA, addressA := replica()
	storeB, addressB := replica()
	for s, peer := range map[*Store]string{storeA: addressB, storeB: addressA} {
		host, port, err := net.SplitHostPort(peer)
		require.NoError(b, err)
		go func() {
			_ = s.Relay(b.Context(), Peers{
				Host: "replicas", Port: port, Self: "10.0.0.1",
				Token: func() string { return peerToken }, Credentials: insecure.NewCredentials,
				LookUp: func(context.Context, string) ([]string, error) { return []string{host}, nil },
				Logger: slog.New(slog.DiscardHandler),
			})
		}()
	}
	query, err := metricsource.ParseQuery("sum(demand_queued_requests)")
	require.NoError(b, err)
	reached := make(chan time.Time, 1)
	storeA.Open(Config{
		Namespace: "asr", Workload: "lightning-asr", Window: metricsource.NewWindow(0),
		Selection: metricsource.NewSelection(metricsource.Idle{}, []*metricsource.Query{query}, nil),
		OnReport:  func() { reached <- time.Now() },
	})
	sequence := uint64(0)
	reporterOf := func(address string) func() time.Duration {
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		require.NoError(b, err)
		b.Cleanup(func() { _ = conn.Close() })
		stream, err := demandv1.NewDemandServiceClient(conn).Report(metadata.AppendToOutgoingContext(b.Context(), "authorization", "Bearer "+asrToken))
		require.NoError(b, err)
		return func() time.Duration {
			time.Sleep(10 * time.Millisecond)
			sequence++
			begun := time.Now()
			require.NoError(b, stream.Send(queued(sequence, float64(sequence%2))))
			took := (<-reached).Sub(begun)
			_, err := stream.Recv()
			require.NoError(b, err)
			return took
		}
	}
	atA, atB := reporterOf(addressA), reporterOf(addressB)
	atA()
	atB() // waits until B has a stream to A
	var own, peer []time.Duration
	for b.Loop() {
		own, peer = append(own, atA()), append(peer, atB())
	}
	p50 := func(all []time.Duration) float64 {
		slices.Sort(all)
		return float64(all[len(all)/2].Nanoseconds()) / 1e3
	}
	b.ReportMetric(p50(own), "own-µs")
	b.ReportMetric(p50(peer), "peer-µs")
	b.ReportMetric(p50(peer)/p50(own), "peer/own")
	b.ReportMetric(0, "ns/op")
}
