package evaluator

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	"github.com/inference-scaler/inference-scaler/metricsource/scrape"
	"github.com/inference-scaler/inference-scaler/scaler/evidence"
)

// oneFleet is a cluster with one workload.
type oneFleet struct {
	Cluster
	workload cluster.Workload
}

func (c oneFleet) Workload(string, string) (cluster.Workload, error) { return c.workload, nil }

func (oneFleet) ScaledObject(string, string) (cluster.ScaledObject, error) {
	return cluster.ScaledObject{}, cluster.ErrNotFound
}

// BenchmarkEvaluate is one evaluation of a trigger: its pods, queries, decision and answer,
// with changed samples and without.
func BenchmarkEvaluate(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "asr_active_requests 3\n")
	}))
	b.Cleanup(server.Close)
	for _, pods := range []int{1, 10, 100, 1000} {
		t := readOnce(b, server.Listener.Addr().String(), pods)
		require.Equal(b, 3*pods, int(t.Last().Decision.Demand))
		for _, change := range []bool{true, false} {
			b.Run(fmt.Sprintf("pods=%d/change=%t", pods, change), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if change {
						t.results = evidence.Results{}
					}
					t.sources.changed.Store(true)
					t.evaluate(b.Context())
				}
			})
		}
	}
}

// readOnce is a trigger of a fleet of so many pods, all of which the address answers for.
// Each has been read, and is not read again.
func readOnce(b *testing.B, address string, pods int) *Trigger {
	scraper := scrape.New(scrape.Options{Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, address)
	}})
	w := cluster.Workload{Namespace: "asr", ScaledObject: "fleet", Kind: "Deployment", Name: "fleet", Replicas: pods, MaxReplicas: 10_000}
	ip := netip.MustParseAddr("10.0.0.0")
	for i := range pods {
		ip = ip.Next()
		w.Pods = append(w.Pods, cluster.Pod{Name: fmt.Sprint("pod-", i), UID: strconv.Itoa(i), IP: ip.String(), Phase: "Running", Ready: true})
	}
	e := New(Options{Cluster: oneFleet{workload: w}, Scraper: scraper})
	b.Cleanup(e.Close)
	t, err := e.Lookup("asr", "fleet", map[string]string{"engine": "lightning-asr", "gpuCapacity": "off", "interval": "1m"})
	require.NoError(b, err)
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 2)
	go func() { done <- scraper.Run(ctx) }()
	go func() { done <- e.Run(ctx) }()
	select {
	case <-t.Settled():
	case <-time.After(time.Minute):
		require.FailNow(b, "not read")
	}
	require.Eventually(b, func() bool { return int(t.Last().Decision.Demand) == 3*pods }, time.Minute, time.Millisecond)
	cancel()
	require.NoError(b, <-done)
	require.NoError(b, <-done)
	return t
}
