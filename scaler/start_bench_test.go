package scaler

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	"github.com/inference-scaler/inference-scaler/scaler/evaluator"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/metricsource/scrape"
)

// manyPods are fleets of so many pods each, on a network of one server that answers for
// them all; stop ends the readings, and what was read stays.
func manyPods(b *testing.B, fleets, pods int) (e *evaluator.Evaluator, stop func()) {
	c := &fakeCluster{workloads: map[cluster.NamespacedName]cluster.Workload{}, triggers: map[cluster.NamespacedName][]map[string]string{}}
	n := &network{servers: map[string]*server{}}
	n.add("all", asr(3))
	scraper := scrape.New(scrape.Options{Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return n.dial(ctx, network, "all")
	}})
	e = evaluator.New(evaluator.Options{Cluster: c, Scraper: scraper})
	c.changed, c.moved = e.Changed, e.InventoryChanged
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { require.NoError(b, scraper.Run(ctx)) })
	running.Go(func() { require.NoError(b, e.Run(ctx)) })
	address := netip.MustParseAddr("10.0.0.0")
	for i := range fleets {
		w := cluster.Workload{Namespace: "asr", ScaledObject: fmt.Sprintf("fleet-%d", i), Kind: "Deployment", Name: fmt.Sprintf("fleet-%d", i), Replicas: pods, MaxReplicas: 10_000}
		for j := range pods {
			address = address.Next()
			p := pod(fmt.Sprintf("pod-%d-%d", i, j), address.String(), true)
			w.Pods = append(w.Pods, p)
		}
		o := cluster.NamespacedName{Namespace: "asr", Name: w.ScaledObject}
		c.mu.Lock()
		c.workloads[o], c.triggers[o] = w, []map[string]string{{"engine": "lightning-asr"}}
		c.mu.Unlock()
		c.changed(o.Namespace, o.Name)
	}
	once := sync.OnceFunc(func() {
		cancel()
		running.Wait()
		n.close()
	})
	b.Cleanup(func() {
		once()
		e.Close()
	})
	for i := range fleets {
		t, err := e.Lookup("asr", fmt.Sprintf("fleet-%d", i), map[string]string{"engine": "lightning-asr"})
		require.NoError(b, err)
		select {
		case <-t.Settled():
		case <-time.After(time.Minute):
			require.FailNow(b, "not read")
		}
	}
	return e, once
}

// BenchmarkStart is from a scaler's start until 1000 triggers are decided on, each by a
// pod that was read.
func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		_, stop := manyPods(b, 1000, 1)
		stop()
	}
}
