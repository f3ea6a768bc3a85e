package push

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/inference-scaler/inference-scaler/metricsource"
	demandv1 "github.com/inference-scaler/inference-scaler/proto/demand/v1"
)

const (
	benchReporters = 1000
	perSecond      = 10 // reports of each
	reportersEnv   = "PUSH_REPORTERS"
)

// TestMain makes the process the reporters of BenchmarkReporters, if it is to be: what
// they cost is not the server's.
func TestMain(m *testing.M) {
	if address := os.Getenv(reportersEnv); address != "" {
		if err := reportForEver(address); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func reportForEver(address string) error {
	ctx := metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+asrToken)
	failed := make(chan error)
	for i := range benchReporters {
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return err
		}
		go func() {
			stream, err := demandv1.NewDemandServiceClient(conn).Report(ctx)
			for sequence := uint64(1); err == nil; sequence++ {
				time.Sleep(time.Second/perSecond + time.Duration(rand.IntN(1000))*time.Microsecond)
				r := queued(sequence, float64(rand.IntN(5)))
				r.Instance = fmt.Sprintf("api-%d", i)
				if err = stream.Send(r); err == nil {
					_, err = stream.Recv()
				}
			}
			failed <- err
		}()
	}
	return <-failed
}

// BenchmarkReporters is what 1000 reporters cost the server, each on a connection of
// its own with 10 reports a second.
func BenchmarkReporters(b *testing.B) {
	query, err := metricsource.ParseQuery("sum(demand_queued_requests)")
	require.NoError(b, err)
	s := NewStore(Options{})
	var changes atomic.Int64
	s.Open(Config{
		Namespace: "asr", Workload: "lightning-asr", Window: metricsource.NewWindow(0),
		Selection: metricsource.NewSelection(metricsource.Idle{}, []*metricsource.Query{query}, nil),
		OnReport:  func() { changes.Add(1) },
	})
	go func() { _ = s.Run(b.Context()) }()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	reports := NewServer(s, tokens(b))
	server := grpc.NewServer(reports.Options()...)
	reports.Register(server)
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()
	cmd := exec.CommandContext(b.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), reportersEnv+"="+listener.Addr().String())
	cmd.Stderr = os.Stderr
	require.NoError(b, cmd.Start())
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	require.Eventually(b, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.count == benchReporters }, time.Minute, 10*time.Millisecond)

	for b.Loop() {
		before, begun, reports := cpu(b), time.Now(), changes.Load()
		time.Sleep(5 * time.Second)
		took := time.Since(begun).Seconds()
		b.ReportMetric((cpu(b)-before).Seconds()/took, "cores")
		b.ReportMetric(float64(changes.Load()-reports)/took, "changes/s")
	}
	var memory runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&memory)
	b.ReportMetric(float64(memory.HeapInuse+memory.StackInuse)/(1<<20), "MiB")
	b.ReportMetric(0, "ns/op")
}

func cpu(b *testing.B) time.Duration {
	var usage syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
