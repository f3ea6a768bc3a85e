package scaler

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	"github.com/inference-scaler/inference-scaler/scaler/evaluator"

	"github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/inference-scaler/inference-scaler/metricsource/push"
	"github.com/inference-scaler/inference-scaler/metricsource/scrape"
	demandv1 "github.com/inference-scaler/inference-scaler/proto/demand/v1"
)

// echo is the reference: a bare stream whose every message is answered at once.
type echo struct {
	demandv1.UnimplementedDemandServiceServer
}

func (echo) Report(stream grpc.BidiStreamingServer[demandv1.ReportRequest, demandv1.ReportResponse]) error {
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&demandv1.ReportResponse{Sequence: req.GetSequence()}); err != nil {
			return err
		}
	}
}

// onLoopback serves over TCP and returns a connection.
func onLoopback(b *testing.B, register func(grpc.ServiceRegistrar)) *grpc.ClientConn {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	server := grpc.NewServer()
	register(server)
	go func() { _ = server.Serve(listener) }()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(b, err)
	b.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
	})
	return conn
}

func queuedReport(sequence uint64, n float64) *demandv1.ReportRequest {
	return &demandv1.ReportRequest{
		Namespace: "asr", Workload: "lightning-asr", Instance: "api-0",
		Sequence: sequence, TimeToLive: durationpb.New(time.Minute),
		Samples: []*demandv1.Sample{{Name: "demand_queued_requests", Value: n}},
	}
}

// idle is the pause before each message: the process that gets a first request sleeps.
// A process that does not sleep gets a message in a tenth of the time.
const idle = 10 * time.Millisecond

// p50 measures what one does, after idle each time, and reports the median.
func p50(b *testing.B, one func() time.Duration) {
	var all []time.Duration
	for b.Loop() {
		time.Sleep(idle)
		all = append(all, one())
	}
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkBareStreamMessage is what a message there and one back cost.
func BenchmarkBareStreamMessage(b *testing.B) {
	conn := onLoopback(b, func(r grpc.ServiceRegistrar) { demandv1.RegisterDemandServiceServer(r, echo{}) })
	stream, err := demandv1.NewDemandServiceClient(conn).Report(b.Context())
	require.NoError(b, err)
	p50(b, func() time.Duration {
		begun := time.Now()
		require.NoError(b, stream.Send(queuedReport(1, 1)))
		_, err := stream.Recv()
		require.NoError(b, err)
		return time.Since(begun)
	})
}

// streams is how many streams are open.
func streams(b *testing.B, registry *prometheus.Registry) float64 {
	families, err := registry.Gather()
	require.NoError(b, err)
	for _, f := range families {
		if f.GetName() == "inference_scaler_streams" {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	return 0
}

// BenchmarkReportToStream is the time from a report of the first request at zero replicas
// to the message of StreamIsActive. Its limit is 5 times the bare message, and 0.5 ms.
func BenchmarkReportToStream(b *testing.B) {
	const token = "a-token-of-the-api-server"
	path := filepath.Join(b.TempDir(), "tokens")
	require.NoError(b, os.WriteFile(path, []byte(token+" asr\n"), 0o600))
	tokens, err := push.ReadTokens(path, slog.New(slog.DiscardHandler))
	require.NoError(b, err)

	c := &fakeCluster{workloads: map[cluster.NamespacedName]cluster.Workload{}, triggers: map[cluster.NamespacedName][]map[string]string{}}
	store, scraper := push.NewStore(push.Options{}), scrape.New(scrape.Options{})
	registry := prometheus.NewRegistry()
	e := evaluator.New(evaluator.Options{Cluster: c, Scraper: scraper, Reports: store, Registerer: registry})
	s := New(e)
	c.changed, c.moved = e.Changed, e.InventoryChanged
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for _, run := range []func(context.Context) error{scraper.Run, store.Run, e.Run} {
		go func() { _ = run(ctx) }()
	}
	metadataOf := map[string]string{"engine": "lightning-asr"}
	c.declare(metadataOf)
	c.update(func(w *cluster.Workload) { w.Replicas = 0 })

	keda := externalscaler.NewExternalScalerClient(onLoopback(b, s.Register))
	actives, err := keda.StreamIsActive(ctx, ref(metadataOf))
	require.NoError(b, err)
	api := demandv1.NewDemandServiceClient(onLoopback(b, push.NewServer(store, tokens).Register))
	reports, err := api.Report(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token))
	require.NoError(b, err)
	sequence := uint64(0)
	report := func(n float64) {
		sequence++
		require.NoError(b, reports.Send(queuedReport(sequence, n)))
	}
	taken := func() {
		_, err := reports.Recv()
		require.NoError(b, err)
	}
	l, err := e.Lookup("asr", "fleet", metadataOf)
	require.NoError(b, err)
	require.Eventually(b, func() bool {
		return streams(b, registry) == 1
	}, 10*time.Second, time.Millisecond)

	p50(b, func() time.Duration {
		begun := time.Now()
		report(1)
		_, err := actives.Recv()
		require.NoError(b, err)
		took := time.Since(begun)
		taken()
		report(0) // back to zero; the time of this report is no part of the edge
		taken()
		for l.Last().Active() {
			time.Sleep(100 * time.Microsecond)
		}
		return took
	})
}
