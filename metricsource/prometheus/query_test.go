package prometheus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/metricsource"
	"github.com/inference-scaler/inference-scaler/metricsource/httpclient"
)

// rig is a running poller with one group.
type rig struct {
	*testing.T
	*Group
	window   *metricsource.Window
	registry *prometheus.Registry
	rounds   chan struct{}
}

// open opens a group with own queries, given as pairs of a name and PromQL.
func open(t *testing.T, address string, change func(*Config), queries ...string) *rig {
	a := &rig{T: t, registry: prometheus.NewRegistry(), rounds: make(chan struct{}, 100), window: metricsource.NewWindow(0)}
	poller := New(Options{Registerer: a.registry})
	cfg := Config{Address: address, Window: a.window, Interval: time.Hour, Timeout: 10 * time.Second, OnRead: func() { a.rounds <- struct{}{} }}
	for pair := range slices.Chunk(queries, 2) {
		cfg.Queries = append(cfg.Queries, metricsource.RemoteQuery{Name: pair[0], Query: pair[1]})
	}
	if change != nil {
		change(&cfg)
	}
	a.Group = poller.Open(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { require.NoError(t, poller.Run(ctx)) })
	t.Cleanup(func() {
		a.Close()
		cancel()
		running.Wait()
		require.Zero(t, a.window.Len())
	})
	return a
}

// once sends one query, and waits for its result.
func once(t *testing.T, address string, change func(*Config), promQL string) (*rig, metricsource.QueryStatus) {
	t.Helper()
	a := open(t, address, change, "load", promQL)
	a.Set(nil)
	<-a.rounds
	return a, a.Queries()[0]
}

// result returns the result of a query in the window.
func (a *rig) result(name string) []metricsource.Element {
	a.Helper()
	q, err := metricsource.ParseQuery(metricsource.RemoteQuery{Name: name}.Selector())
	require.NoError(a, err)
	r, err := q.Eval(a.Context(), a.window, time.Now())
	require.NoError(a, err)
	return r.Elements
}

// respond serves the API with a body for each query.
func respond(t *testing.T, bodies map[string]string) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if got := req.URL.Path + req.FormValue("partial_response") + req.FormValue("deny_partial_response"); got != "/prefix/api/v1/queryfalse1" {
			t.Error(got)
		}
		body, ok := bodies[req.FormValue("query")]
		if !ok {
			w.WriteHeader(http.StatusBadRequest)
			body = `{"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": parse error"}`
		}
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(s.Close)
	return s
}

func vectorOf(elements string) string {
	return `{"status":"success","data":{"resultType":"vector","result":[` + elements + `]}}`
}

func TestResults(t *testing.T) {
	server := respond(t, map[string]string{
		"two":  vectorOf(`{"metric":{"pod":"b","__name__":"q"},"value":[1,"2"]},{"metric":{"pod":"a","instance":"i"},"value":[1,"1.5"]}`),
		"NaN":  vectorOf(`{"metric":{"pod":"a"},"value":[1,"NaN"]},{"metric":{"pod":"b"},"value":[1,"+Inf"]}`),
		"none": vectorOf(""),
		"label conflict": vectorOf(`{"metric":{"__name__":"r","pod":"c","query":"d","exported_name":"q","exported_pod":"b"},"value":[1,"1"]},` +
			`{"metric":{"__name__":"r","pod":"c","query":"d","exported_name":"r","exported_pod":"c"},"value":[1,"2"]},` +
			`{"metric":{"__name__":"r","pod":"c","query":"e"},"value":[1,"3"]}`),
		"scalar": `{"status":"success","data":{"resultType":"scalar","result":[1,"7"]}}`,
		"warned": `{"status":"success","warnings":["a store is away"],"infos":["no counter"],"data":{"resultType":"vector","result":[]}}`,
		"string": `{"status":"success","data":{"resultType":"string","result":[1,"7"]}}`,
		"matrix": `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"2"]]}]}}`,
		"native": vectorOf(`{"metric":{},"histogram":[1,{"count":"1","sum":"1","buckets":[[0,"0","1","1"]]}]}`),
		"many":   vectorOf(strings.TrimSuffix(strings.Repeat(`{"metric":{},"value":[1,"2"]},`, maxElements+1), ",")),
		"html":   "<html>",
		"half":   `{"status":"success","data":{"resultType":"vector","res`,
		"empty":  `{}`,
	})
	type elements = []metricsource.Element
	for query, check := range map[string]func(*testing.T, elements, metricsource.QueryStatus){
		"two": func(t *testing.T, got elements, _ metricsource.QueryStatus) {
			require.Len(t, got, 2)
			require.Equal(t, `{exported_name="q", exported_pod="b"}`, got[0].Labels)
			require.Empty(t, got[0].Pod, "not a pod of the group")
			require.Equal(t, 2.0, got[0].Value)
			require.Equal(t, `{exported_pod="a", instance="i"}`, got[1].Labels)
			require.Equal(t, "i", got[1].Instance)
			require.Equal(t, 1.5, got[1].Value)
		},
		"NaN": func(t *testing.T, got elements, _ metricsource.QueryStatus) {
			require.True(t, math.IsNaN(got[0].Value))
			require.True(t, math.IsInf(got[1].Value, 1))
		},
		"none":   func(t *testing.T, got elements, _ metricsource.QueryStatus) { require.Empty(t, got) },
		"scalar": func(t *testing.T, got elements, _ metricsource.QueryStatus) { require.Equal(t, 7.0, got[0].Value) },
		"label conflict": func(t *testing.T, got elements, _ metricsource.QueryStatus) {
			require.Len(t, got, 3, "different elements have different series")
			require.Equal(t, `{exported_exported_name="r", exported_exported_pod="c", exported_name="q", exported_pod="b", exported_query="d"}`, got[0].Labels)
		},
		"warned": func(t *testing.T, _ elements, st metricsource.QueryStatus) {
			require.Equal(t, []string{"a store is away", "no counter"}, st.Warnings)
		},
	} {
		t.Run(query, func(t *testing.T) {
			a, st := once(t, server.URL+"/prefix/", nil, query)
			require.NoError(t, st.Err)
			require.False(t, st.Answered.IsZero())
			require.Equal(t, "load", st.Target)
			require.Equal(t, metricsource.Status{Target: server.URL + "/prefix/", Answered: a.last, Tried: a.last}, a.Status()[0])
			check(t, a.result("load"), st)
		})
	}
	for query, want := range map[string]string{
		"string":    `unexpected value type "string"`,
		"matrix":    "wanted: an instant vector or a scalar",
		"native":    "native histogram; wanted: numbers",
		"many":      "aggregate them",
		"html":      "the response is not from a Prometheus API",
		"half":      "the response is not from a Prometheus API",
		"empty":     "holds no result",
		"not known": `the server responds: invalid parameter "query": parse error`,
	} {
		t.Run(query, func(t *testing.T) {
			a, st := once(t, server.URL+"/prefix", nil, query)
			require.ErrorContains(t, st.Err, want)
			require.ErrorContains(t, st.Err, server.URL)
			require.True(t, st.Answered.IsZero())
			require.Empty(t, a.result("load"))
			require.Equal(t, st.Err, a.Status()[0].Err)
		})
	}
}

func TestServersThatFail(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch {
		case strings.HasPrefix(req.URL.Path, "/hangs"):
			<-release
		case strings.HasPrefix(req.URL.Path, "/redirects"):
			http.Redirect(w, req, "/ok/api/v1/query", http.StatusTemporaryRedirect)
		case strings.HasPrefix(req.URL.Path, "/huge"):
			chunk := strings.Repeat(" ", 1<<20)
			for range 2 * maxBody >> 20 {
				if _, err := io.WriteString(w, chunk); err != nil {
					return
				}
			}
		case strings.HasPrefix(req.URL.Path, "/countless"):
			// The elements are counted before the body is decoded.
			one := `{"metric":{},"value":[1,"2"]}`
			_, _ = io.WriteString(w, vectorOf(strings.Repeat(one+",", 5*maxElements)+one))
		case strings.HasPrefix(req.URL.Path, "/denies"):
			http.Error(w, "the secret of the server", http.StatusUnauthorized)
		case strings.HasPrefix(req.URL.Path, "/broken"):
			http.Error(w, "the secret of the server", http.StatusInternalServerError)
		}
	}))
	defer server.Close()
	defer close(release)
	for path, want := range map[string]string{
		"hangs":     "no response within the timeout",
		"redirects": "redirects are not followed",
		"huge":      "larger than 4 MiB",
		"countless": "more than 10000 elements",
		"denies":    "client error: 401",
		"broken":    "server error: 500",
	} {
		t.Run(path, func(t *testing.T) {
			_, st := once(t, server.URL+"/"+path, func(c *Config) {
				if path == "hangs" {
					c.Timeout = 50 * time.Millisecond
				}
			}, "q")
			require.ErrorContains(t, st.Err, want)
			require.NotContains(t, st.Err.Error(), "the secret")
		})
	}
	t.Run("refuses", func(t *testing.T) {
		gone := httptest.NewServer(nil)
		gone.Close()
		_, st := once(t, gone.URL, nil, "q")
		require.ErrorContains(t, st.Err, "connection refused")
	})
	t.Run("not permitted", func(t *testing.T) {
		forbidden := errors.New("no pod of this namespace")
		_, st := once(t, server.URL, func(c *Config) { c.Permit = func(netip.Addr) error { return forbidden } }, "q")
		require.ErrorIs(t, st.Err, forbidden)
	})
	t.Run("invalid URL", func(t *testing.T) {
		_, st := once(t, "http://a b", nil, "q")
		require.Error(t, st.Err)
	})
}

// Queries fail independently. The last result of a failed query is kept.
func TestQueriesFailIndependently(t *testing.T) {
	var mu sync.Mutex
	broken := map[string]bool{"bad": true}
	breaks := func(query string) {
		mu.Lock()
		defer mu.Unlock()
		broken[query] = true
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if broken[req.FormValue("query")] {
			w.WriteHeader(http.StatusUnprocessableEntity)
			_, _ = io.WriteString(w, `{"status":"error","errorType":"execution","error":"too many samples"}`)
			return
		}
		_, _ = io.WriteString(w, vectorOf(`{"metric":{},"value":[1,"2"]}`))
	}))
	defer server.Close()
	a := open(t, server.URL, nil, "load", "good", "latency", "bad")
	require.Equal(t, []metricsource.QueryStatus{
		{Status: metricsource.Status{Target: "load", Err: errNotQueried}}, {Status: metricsource.Status{Target: "latency", Err: errNotQueried}},
	}, a.Queries(), "no queries before Set")
	a.Set(nil)
	<-a.rounds
	first := a.Queries()
	require.NoError(t, first[0].Err)
	require.ErrorContains(t, first[1].Err, "too many samples")
	require.Len(t, a.result("load"), 1)
	require.Empty(t, a.result("latency"))
	require.NoError(t, a.Status()[0].Err, "one query succeeded")

	breaks("good")
	a.Set([]Target{{Name: "a", Ready: true}})
	require.Equal(t, first, a.Queries(), "the results are kept until the next round, which starts immediately")
	<-a.rounds
	got, answered := a.Queries(), a.Status()[0].Answered
	require.ErrorContains(t, got[0].Err, "too many samples")
	require.WithinDuration(t, first[0].Answered, answered, time.Second)
	require.Equal(t, first[0].Answered, got[0].Answered)
	require.Equal(t, 2.0, a.result("load")[0].Value)
	require.Equal(t, []metricsource.Status{
		{Target: "a", Answered: answered, Tried: a.last, Err: got[0].Err},
		{Target: server.URL, Answered: answered, Tried: a.last, Err: got[0].Err},
	}, a.Status())
	require.NoError(t, testutil.GatherAndCompare(a.registry, strings.NewReader(`
# HELP inference_scaler_prometheus_queries_total Queries to Prometheus servers by result: ok, refused (the server rejected the query) or failed.
# TYPE inference_scaler_prometheus_queries_total counter
inference_scaler_prometheus_queries_total{result="ok"} 1
inference_scaler_prometheus_queries_total{result="refused"} 3
`), "inference_scaler_prometheus_queries_total"))
}

func TestServerWithoutPOST(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodGet {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		_, _ = io.WriteString(w, vectorOf(`{"metric":{},"value":[1,"2"]}`))
	}))
	defer server.Close()
	_, st := once(t, server.URL, nil, "q")
	require.NoError(t, st.Err)
}

func TestCredentials(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		fmt.Fprint(w, vectorOf(fmt.Sprintf(`{"metric":{},"value":[1,"%d"]}`, len(req.Header.Get("Authorization")))))
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	pool := server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	withRoots := func(c *Config) {
		c.Credentials = func(_ context.Context, at *url.URL) (*httpclient.Credentials, error) {
			host, _, err := net.SplitHostPort(at.Host)
			require.NoError(t, err)
			require.Equal(t, "127.0.0.1", host)
			return &httpclient.Credentials{Roots: pool, Header: http.Header{"Authorization": {"Bearer xyz"}}}, nil
		}
	}
	a, st := once(t, server.URL, withRoots, "q")
	require.NoError(t, st.Err)
	require.Equal(t, 10.0, a.result("load")[0].Value)
	_, st = once(t, server.URL, nil, "q")
	require.ErrorContains(t, st.Err, "certificate")
}

func TestRoundsRepeatAtTheInterval(t *testing.T) {
	server := respond(t, map[string]string{"q": vectorOf("")})
	a, _ := once(t, server.URL+"/prefix", func(c *Config) { c.Interval = 10 * time.Millisecond }, "q")
	for range 5 {
		<-a.rounds
	}
	a.Close()
}
