package prometheus

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/metricsource"
)

// network connects a poller to one HTTP server in memory. It does not use bufconn, which has
// no deadlines: without them, net/http does not notice a closed connection.
type network struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (n *network) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case n.conns <- server:
		return client, nil
	case <-n.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (n *network) Accept() (net.Conn, error) {
	select {
	case c := <-n.conns:
		return c, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

func (n *network) Close() error   { return nil }
func (n *network) Addr() net.Addr { return &net.UnixAddr{Name: "memory"} }

// serve runs a poller and its only server until the test ends. It must be called in a
// synctest bubble.
func serve(t *testing.T, handler http.Handler) *Poller {
	n := &network{conns: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Hour}
	poller := New(Options{Dial: n.dial})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = server.Serve(n) })
	running.Go(func() { _ = poller.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		close(n.closed)
		_ = server.Close()
		running.Wait()
	})
	return poller
}

// store is a server with the engine of Prometheus. A test sets its series. The tests in
// test/e2e use a real Prometheus.
type store struct {
	engine *promql.Engine

	mu      sync.Mutex
	series  map[string][]labels.Labels // by a name that the test chooses
	values  map[string][]float64
	fault   http.HandlerFunc // replaces the response; nil for none
	queries []string
}

func newStore() *store {
	return &store{
		engine: promql.NewEngine(promql.EngineOpts{MaxSamples: 1e6, Timeout: time.Minute, Parser: parser.NewParser(parser.Options{})}),
		series: map[string][]labels.Labels{}, values: map[string][]float64{},
	}
}

// has replaces the series under a name: pairs of a series in PromQL notation and a value.
func (s *store) has(t *testing.T, name string, series ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.series, name)
	delete(s.values, name)
	for i := 0; i < len(series); i += 2 {
		ls, err := parser.NewParser(parser.Options{}).ParseMetric(series[i].(string))
		require.NoError(t, err)
		s.series[name] = append(s.series[name], ls)
		s.values[name] = append(s.values[name], series[i+1].(float64))
	}
}

// fails makes f respond to all requests. nil ends the fault.
func (s *store) fails(f http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// failsOn makes the store fail only on queries that contain part.
func (s *store) failsOn(part string) {
	s.fails(func(w http.ResponseWriter, req *http.Request) {
		if strings.Contains(req.FormValue("query"), part) {
			unavailable(w, req)
			return
		}
		s.answer(w, req)
	})
}

// asked returns the queries since the previous call.
func (s *store) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.queries
	s.queries = nil
	return all
}

func (s *store) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	s.mu.Lock()
	s.queries = append(s.queries, req.FormValue("query"))
	fault := s.fault
	s.mu.Unlock()
	if fault != nil {
		fault(w, req)
		return
	}
	s.answer(w, req)
}

// answer evaluates the query over the series.
func (s *store) answer(w http.ResponseWriter, req *http.Request) {
	s.mu.Lock()
	window := metricsource.NewWindow(0)
	for name, series := range s.series {
		target := window.Target(labels.EmptyLabels())
		var points []metricsource.Point
		for i, ls := range series {
			points = append(points, metricsource.Point{Series: target.Series(ls), Value: s.values[name][i]})
		}
		if err := target.Commit(time.Now(), points); err != nil {
			panic(err)
		}
	}
	s.mu.Unlock()
	query, err := s.engine.NewInstantQuery(req.Context(), window, nil, req.FormValue("query"), time.Now())
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"status":"error","errorType":"bad_data","error":%q}`, err.Error())
		return
	}
	defer query.Close()
	result, err := query.Exec(req.Context()).Vector()
	if err != nil {
		panic(err)
	}
	all := []any{}
	for _, e := range result {
		all = append(all, map[string]any{"metric": e.Metric.Map(), "value": [2]any{1, strconv.FormatFloat(e.F, 'g', -1, 64)}})
	}
	text, err := json.Marshal(all)
	if err != nil {
		panic(err)
	}
	_, _ = io.WriteString(w, vectorOf(string(text[1:len(text)-1])))
}

func unavailable(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusServiceUnavailable)
}

func hang(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() }

// fleet is a group with the pods of a workload, its store and its window.
type fleet struct {
	*testing.T
	*Group
	store  *store
	window *metricsource.Window
	pods   []Target
	rounds int
}

// inBubble runs f with a fleet in virtual time. It fails if a goroutine or a series is left
// afterwards.
func inBubble(t *testing.T, change func(*Config), f func(*testing.T, *fleet)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &fleet{T: t, store: newStore(), window: metricsource.NewWindow(time.Minute)}
		cfg := Config{
			Address: "http://prometheus", Interval: 5 * time.Second, Timeout: 2 * time.Second, Window: s.window, Namespace: "llm",
			Selection: metricsource.NewSelection(metricsource.Idle{Prefixes: []string{"e:", "f:"}, Served: parse(t, `e:done_total{code="200"}`)},
				[]*metricsource.Query{parse(t, `sum by (pod) (e:waiting{reason="capacity"}) or sum by (pod) (e:queue)`), parse(t, "e:running")},
				[]*metricsource.Query{parse(t, "e:cache")}),
			OnRead: func() { s.rounds++ },
		}
		if change != nil {
			change(&cfg)
		}
		s.Group = serve(t, s.store).Open(cfg)
		defer func() {
			s.Close()
			require.Zero(t, s.window.Len())
			require.Empty(t, s.load(`{__name__=~".+"}`))
		}()
		f(t, s)
	})
}

func parse(t testing.TB, text string) *metricsource.Query {
	q, err := metricsource.ParseQuery(text)
	require.NoError(t, err)
	return q
}

// set replaces the pods of the fleet by ready pods of these names.
func (s *fleet) set(names ...string) {
	s.pods = nil
	for _, name := range names {
		s.pods = append(s.pods, Target{Name: name, UID: "uid-" + name, Ready: true, Labels: labels.FromStrings("namespace", "llm", "job", "vllm", "pod", name)})
	}
	s.Set(s.pods)
}

// after advances the virtual time, and waits until all goroutines are blocked.
func (s *fleet) after(d time.Duration) {
	time.Sleep(d) // virtual
	synctest.Wait()
}

// load evaluates a query now, and returns the values by pod.
func (s *fleet) load(text string) map[string]float64 {
	s.Helper()
	r, err := parse(s.T, text).Eval(s.Context(), s.window, time.Now())
	require.NoError(s, err)
	values := map[string]float64{}
	for _, e := range r.Elements {
		values[e.Pod] += e.Value
	}
	return values
}

func (s *fleet) status(name string) metricsource.Status {
	s.Helper()
	for _, st := range s.Status() {
		if st.Target == name {
			return st
		}
	}
	require.Fail(s, "no such target", name)
	return metricsource.Status{}
}
