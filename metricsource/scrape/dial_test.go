package scrape

import (
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/semaphore"

	"github.com/inference-scaler/inference-scaler/metricsource"
)

// readOnce scrapes one target over the loopback network, without Run.
func readOnce(t *testing.T, url string, permit func(netip.Addr) error) (metricsource.Status, *Scraper) {
	s := New(Options{})
	cfg := config(t, setup{timeout: 1 << 40})
	cfg.Permit = permit
	g := s.Open(cfg)
	t.Cleanup(g.Close)
	p := pod("a")
	p.URL = url
	g.Set([]Target{p})
	g.targets["a"].read(t.Context(), semaphore.NewWeighted(1))
	return g.Status()[0], s
}

func TestPermitChecksTheDialledAddress(t *testing.T) {
	forbidden := errors.New("not an address of this namespace")
	hits := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		hits++
		text("q 7\n")(w, req)
	}))
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	require.NoError(t, err)
	for _, name := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]"} {
		t.Run(name, func(t *testing.T) {
			before := hits
			url := "http://" + name + ":" + port + "/metrics"
			seen := map[netip.Addr]bool{}
			s, scraper := readOnce(t, url, func(a netip.Addr) error { seen[a] = true; return forbidden })
			require.ErrorIs(t, s.Err, forbidden)
			require.Contains(t, seen, netip.MustParseAddr("127.0.0.1"), "after name resolution")
			require.Equal(t, before, hits)
			require.EqualValues(t, 1, testutil.ToFloat64(scraper.metrics.scrapes.WithLabelValues("connection")))

			s, _ = readOnce(t, url, func(netip.Addr) error { return nil })
			require.NoError(t, s.Err)
			s, _ = readOnce(t, url, nil)
			require.NoError(t, s.Err)
			require.Equal(t, before+2, hits)
		})
	}
}

func TestTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(text("q 7\n"))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	s, _ := readOnce(t, server.URL+"/metrics", nil)
	require.NoError(t, s.Err, "the certificate of a pod is not verified")
	s, _ = readOnce(t, strings.Replace(server.URL, "https", "http", 1), nil)
	require.ErrorContains(t, s.Err, "400")

	plain := httptest.NewServer(text("q 7\n"))
	defer plain.Close()
	s, _ = readOnce(t, strings.Replace(plain.URL, "http", "https", 1), nil)
	require.ErrorContains(t, s.Err, "tls: first record")
}

func TestInvalidURLs(t *testing.T) {
	for _, url := range []string{"", "a:80", "http://", "ftp://a/", "http://a:port/", "://", "http://[::1/"} {
		s, scraper := readOnce(t, url, nil)
		require.Error(t, s.Err, url)
		require.Zero(t, testutil.ToFloat64(scraper.metrics.scrapes.WithLabelValues("ok")))
	}
}

func TestMetrics(t *testing.T) {
	inBubble(t, setup{}, func(t *testing.T, r *rig) {
		r.net.serve("ok", text("q 7\n"))
		r.net.serve("nothing", text("# nothing\n"))
		r.net.serve("gone", status(404))
		r.group.Set([]Target{pod("ok"), pod("nothing"), pod("gone"), pod("refuses")})
		r.after(0)
		require.NoError(t, testutil.GatherAndCompare(r.registry, strings.NewReader(`
# HELP inference_scaler_scrape_body_bytes_total Bytes of the response bodies of targets.
# TYPE inference_scaler_scrape_body_bytes_total counter
inference_scaler_scrape_body_bytes_total 14
# HELP inference_scaler_scrape_targets Targets that are scraped at present.
# TYPE inference_scaler_scrape_targets gauge
inference_scaler_scrape_targets 4
# HELP inference_scaler_scrapes_total Scrapes of targets by result: ok, or the class of the error.
# TYPE inference_scaler_scrapes_total counter
inference_scaler_scrapes_total{result="connection"} 1
inference_scaler_scrapes_total{result="no_series"} 1
inference_scaler_scrapes_total{result="ok"} 1
inference_scaler_scrapes_total{result="status"} 1
`), "inference_scaler_scrape_body_bytes_total", "inference_scaler_scrape_targets", "inference_scaler_scrapes_total"))
		families, err := r.registry.Gather()
		require.NoError(t, err)
		require.Len(t, families, 4)
		require.Equal(t, "inference_scaler_scrape_duration_seconds", families[1].GetName())
		require.EqualValues(t, 4, families[1].GetMetric()[0].GetHistogram().GetSampleCount())
		r.group.Set([]Target{pod("ok")})
		require.EqualValues(t, 1, testutil.ToFloat64(r.scraper.metrics.targets))
	})
	problems, err := testutil.CollectAndLint(registered(t))
	require.NoError(t, err)
	require.Empty(t, problems)
}

// registered returns the scraper's metrics as one collector.
func registered(t *testing.T) prometheus.Collector {
	registry := prometheus.NewRegistry()
	newMetrics(registry).scrapes.WithLabelValues("ok").Inc()
	require.Panics(t, func() { newMetrics(registry) }, "duplicate registration")
	return registry
}
