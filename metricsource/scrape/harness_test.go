package scrape

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/metricsource"
)

// setup configures the group of a rig. The zero setup requires the series q of every
// target, with an interval of 1 s and a timeout of 400 ms.
type setup struct {
	interval, timeout time.Duration
	lookback          time.Duration
	needed, optional  []string
	idle              metricsource.Idle
}

// rig is a running Scraper with one group, on an in-memory network, in a synctest bubble.
// Time is virtual. After a call of after, all goroutines wait for time to pass.
type rig struct {
	t        *testing.T
	net      *network
	registry *prometheus.Registry
	scraper  *Scraper
	window   *metricsource.Window
	group    *Group
	log      bytes.Buffer // by slog, which serialises its writes
	reads    atomic.Int64 // calls of OnRead
	begun    time.Time
}

// inBubble runs f with a rig. It fails if a goroutine, a connection or a series is left
// afterwards.
func inBubble(t *testing.T, with setup, f func(*testing.T, *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, net: newNetwork(), registry: prometheus.NewRegistry(), begun: time.Now()}
		defer r.net.close()
		r.scraper = New(Options{
			Dial:       r.net.dial,
			Registerer: r.registry,
			Logger:     slog.New(slog.NewTextHandler(&r.log, nil)),
		})
		cfg := config(t, with)
		cfg.OnRead = func() { r.reads.Add(1) }
		r.window = cfg.Window
		r.group = r.scraper.Open(cfg)
		ctx, cancel := context.WithCancel(t.Context())
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			_ = r.scraper.Run(ctx)
		}()
		defer func() {
			r.group.Close()
			cancel()
			<-stopped
			synctest.Wait()
			if !t.Failed() {
				require.Zero(t, r.window.Len(), "series left")
				require.Zero(t, r.net.open(), "connections left")
				require.Zero(t, testutil.ToFloat64(r.scraper.metrics.targets), "targets left")
			}
		}()
		f(t, r)
	})
}

// config returns the group configuration of a setup.
func config(t testing.TB, with setup) Config {
	parse := func(texts []string) (all []*metricsource.Query) {
		for _, text := range texts {
			q, err := metricsource.ParseQuery(text)
			require.NoError(t, err)
			all = append(all, q)
		}
		return all
	}
	if with.needed == nil {
		with.needed = []string{"sum(q)"}
	}
	cfg := Config{Interval: time.Second, Timeout: 400 * time.Millisecond, OnRead: func() {}}
	if with.interval != 0 {
		cfg.Interval = with.interval
	}
	if with.timeout != 0 {
		cfg.Timeout = with.timeout
	}
	cfg.Selection = metricsource.NewSelection(with.idle, parse(with.needed), parse(with.optional))
	cfg.Window = metricsource.NewWindow(with.lookback)
	return cfg
}

// query parses valid PromQL.
func query(t testing.TB, text string) *metricsource.Query {
	q, err := metricsource.ParseQuery(text)
	require.NoError(t, err)
	return q
}

// pod returns a ready target on the host of the same name.
func pod(name string) Target {
	return Target{
		Name: name, UID: "uid-" + name, URL: "http://" + name + ":80/metrics", Ready: true,
		Labels: labels.FromStrings("pod", name),
	}
}

// pods returns n ready targets.
func pods(n int) []Target {
	all := make([]Target, n)
	for i := range all {
		all[i] = pod(fmt.Sprintf("pod-%04d", i))
	}
	return all
}

// after advances the virtual time, and waits until all goroutines are blocked.
func (r *rig) after(d time.Duration) {
	time.Sleep(d) // virtual
	synctest.Wait()
}

// load evaluates a query now, and returns the values by pod.
func (r *rig) load(text string) map[string]float64 {
	r.t.Helper()
	result, err := query(r.t, text).Eval(r.t.Context(), r.window, time.Now())
	require.NoError(r.t, err)
	values := map[string]float64{}
	for _, e := range result.Elements {
		values[e.Pod] += e.Value
	}
	return values
}

func (r *rig) status(name string) metricsource.Status {
	r.t.Helper()
	for _, s := range r.group.Status() {
		if s.Target == name {
			return s
		}
	}
	require.Fail(r.t, "no such target", name)
	return metricsource.Status{}
}

// reader returns the reader of a target.
func (r *rig) reader(name string) *reader { return &r.group.targets[name].reader }

// counted returns the number of scrapes with this result or class of error.
func (r *rig) counted(result string) int {
	return int(testutil.ToFloat64(r.scraper.metrics.scrapes.WithLabelValues(result)))
}

const textFormat = "text/plain; version=0.0.4; charset=utf-8"

// text responds to every request with the body.
func text(body string) http.HandlerFunc { return typed(textFormat, body) }

func typed(contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write([]byte(body))
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// python responds as Python's prometheus_client does: it supports the filter.
func python(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		filter := map[string]bool{}
		for _, name := range req.URL.Query()["name[]"] {
			filter[name] = true
		}
		w.Header().Set("Content-Type", textFormat)
		for line := range strings.Lines(body) {
			name := line[:strings.IndexAny(line, "{ ")]
			if len(filter) == 0 || filter[name] {
				_, _ = w.Write([]byte(line))
			}
		}
	}
}

// onFilter calls filtered for requests with a filter, and full for all others.
func onFilter(filtered, full http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Query().Has("name[]") {
			filtered(w, req)
			return
		}
		full(w, req)
	}
}

// hang does not respond until the client cancels the request.
func hang(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() }
