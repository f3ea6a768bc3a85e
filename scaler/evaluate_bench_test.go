package scaler

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/metricsource/exposition"
	"github.com/inference-scaler/inference-scaler/metricsource/scrape"
	"github.com/inference-scaler/inference-scaler/scaler/preset"
	"github.com/inference-scaler/inference-scaler/scaler/trigger"
)

// BenchmarkExpositions is what it takes to find an engine's series in a body of its, and
// what expfmt takes to read the whole.
func BenchmarkExpositions(b *testing.B) {
	for name, of := range captures {
		body, err := os.ReadFile("preset/testdata/" + name + ".prom")
		require.NoError(b, err)
		metadata := map[string]string{"scalerAddress": "scaler:9090", "engine": of.engine}
		if p, _ := preset.Lookup(of.engine); p.Target == 0 {
			metadata["target"] = "5"
		}
		if p, _ := preset.Lookup(of.engine); p.Port == 0 {
			metadata["port"] = "8000"
		}
		t, err := trigger.Parse(metadata)
		require.NoError(b, err)
		names := exposition.NewNames(t.Want.Names())
		b.Run(name+"/scan", func(b *testing.B) {
			b.ReportAllocs()
			var s exposition.Scanner
			for b.Loop() {
				for s.Reset(body, names); s.Next(); {
				}
				require.NoError(b, s.Err())
			}
		})
		b.Run(name+"/expfmt", func(b *testing.B) {
			for b.Loop() {
				p := expfmt.NewTextParser(model.UTF8Validation)
				_, err := p.TextToMetricFamilies(strings.NewReader(string(body)))
				require.NoError(b, err)
			}
		})
	}
}

// manyPods are fleets of so many pods each, on a network of one server that answers for
// them all; stop ends the readings, and what was read stays.
func manyPods(b *testing.B, fleets, pods int) (s *Scaler, stop func()) {
	c := &fakeCluster{workloads: map[object]cluster.Workload{}, triggers: map[object][]map[string]string{}}
	n := &network{servers: map[string]*server{}}
	n.add("all", asr(3))
	scraper := scrape.New(scrape.Options{Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return n.dial(ctx, network, "all")
	}})
	s = New(Options{Cluster: c, Scraper: scraper})
	c.changed, c.moved = s.Changed, s.InventoryChanged
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { require.NoError(b, scraper.Run(ctx)) })
	running.Go(func() { require.NoError(b, s.Run(ctx)) })
	address := netip.MustParseAddr("10.0.0.0")
	for i := range fleets {
		w := cluster.Workload{Namespace: "asr", ScaledObject: fmt.Sprintf("fleet-%d", i), Kind: "Deployment", Name: fmt.Sprintf("fleet-%d", i), Replicas: pods, MaxReplicas: 10_000}
		for j := range pods {
			address = address.Next()
			p := pod(fmt.Sprintf("pod-%d-%d", i, j), address.String(), true)
			w.Pods = append(w.Pods, p)
		}
		o := object{"asr", w.ScaledObject}
		c.mu.Lock()
		c.workloads[o], c.triggers[o] = w, []map[string]string{{"engine": "lightning-asr"}}
		c.mu.Unlock()
		c.changed(o.namespace, o.name)
	}
	once := sync.OnceFunc(func() {
		cancel()
		running.Wait()
		n.close()
	})
	b.Cleanup(func() {
		once()
		for _, l := range s.all() {
			l.close()
		}
	})
	require.Eventually(b, func() bool { return len(s.all()) == fleets }, time.Minute, time.Millisecond)
	for _, l := range s.all() {
		select {
		case <-l.settled:
		case <-time.After(time.Minute):
			require.FailNow(b, "not read")
		}
	}
	return s, once
}

// BenchmarkEvaluate is one evaluation of a trigger: its pods, queries, decision and answer,
// where their samples have changed, and where they have not.
func BenchmarkEvaluate(b *testing.B) {
	for _, pods := range []int{1, 10, 100, 1000} {
		s, stop := manyPods(b, 1, pods)
		stop()
		l := s.all()[0]
		require.Equal(b, 3*pods, int(l.answer.Load().decision.Demand))
		for _, change := range []bool{true, false} {
			b.Run(fmt.Sprintf("pods=%d/change=%t", pods, change), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if change {
						clear(l.source.(*scraped).said)
					}
					l.stale.Store(true)
					l.evaluate(b.Context())
				}
			})
		}
	}
}

// BenchmarkStart is from a scaler's start until 1000 triggers are decided on, each by a
// pod that was read.
func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		_, stop := manyPods(b, 1000, 1)
		stop()
	}
}
