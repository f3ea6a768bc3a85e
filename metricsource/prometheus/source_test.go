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
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/metricsource/httpclient"
)

// asking is a poller at work, with one source.
type asking struct {
	*testing.T
	*Source
	registry *prometheus.Registry
	rounds   chan struct{}
}

func ask(t *testing.T, address string, change func(*Config)) *asking {
	a := &asking{T: t, registry: prometheus.NewRegistry(), rounds: make(chan struct{}, 100)}
	poller := New(Options{Registerer: a.registry})
	cfg := Config{Address: address, Interval: time.Hour, Timeout: 10 * time.Second, OnAnswer: func() { a.rounds <- struct{}{} }}
	if change != nil {
		change(&cfg)
	}
	a.Source = poller.Open(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { require.NoError(t, poller.Run(ctx)) })
	t.Cleanup(func() {
		a.Close()
		cancel()
		running.Wait()
	})
	return a
}

// once asks one query, and waits for what comes of it.
func (a *asking) once(promQL string) Answer {
	a.Helper()
	a.Ask([]Question{{"load", promQL}})
	<-a.rounds
	return a.Answers()["load"]
}

// answers serves the API with a body for each query.
func answers(t *testing.T, bodies map[string]string) *httptest.Server {
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

func vector(elements string) string {
	return `{"status":"success","data":{"resultType":"vector","result":[` + elements + `]}}`
}

func TestResults(t *testing.T) {
	server := answers(t, map[string]string{
		"two":    vector(`{"metric":{"pod":"b","__name__":"q"},"value":[1,"2"]},{"metric":{"pod":"a","instance":"i"},"value":[1,"1.5"]}`),
		"odd":    vector(`{"metric":{"pod":"a"},"value":[1,"NaN"]},{"metric":{"pod":"b"},"value":[1,"+Inf"]}`),
		"none":   vector(""),
		"scalar": `{"status":"success","data":{"resultType":"scalar","result":[1,"7"]}}`,
		"warned": `{"status":"success","warnings":["a store is away"],"infos":["no counter"],"data":{"resultType":"vector","result":[]}}`,
		"string": `{"status":"success","data":{"resultType":"string","result":[1,"7"]}}`,
		"matrix": `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"2"]]}]}}`,
		"native": vector(`{"metric":{},"histogram":[1,{"count":"1","sum":"1","buckets":[[0,"0","1","1"]]}]}`),
		"many":   vector(strings.TrimSuffix(strings.Repeat(`{"metric":{},"value":[1,"2"]},`, maxElements+1), ",")),
		"html":   "<html>",
		"half":   `{"status":"success","data":{"resultType":"vector","res`,
		"empty":  `{}`,
	})
	for query, check := range map[string]func(*testing.T, Answer){
		"two": func(t *testing.T, a Answer) {
			require.Len(t, a.Result.Elements, 2)
			require.Equal(t, "b", a.Result.Elements[0].Pod)
			require.Equal(t, `q{pod="b"}`, a.Result.Elements[0].Labels)
			require.Equal(t, "i", a.Result.Elements[1].Instance)
			require.Equal(t, 1.5, a.Result.Elements[1].Value)
		},
		"odd": func(t *testing.T, a Answer) {
			require.True(t, math.IsNaN(a.Result.Elements[0].Value))
			require.True(t, math.IsInf(a.Result.Elements[1].Value, 1))
		},
		"none":   func(t *testing.T, a Answer) { require.Empty(t, a.Result.Elements) },
		"scalar": func(t *testing.T, a Answer) { require.Equal(t, 7.0, a.Result.Elements[0].Value) },
		"warned": func(t *testing.T, a Answer) {
			require.Equal(t, []string{"a store is away", "no counter"}, a.Result.Warnings)
		},
	} {
		t.Run(query, func(t *testing.T) {
			a := ask(t, server.URL+"/prefix/", nil).once(query)
			require.NoError(t, a.Err)
			require.False(t, a.Answered.IsZero())
			require.Equal(t, query, a.PromQL)
			check(t, a)
		})
	}
	for query, want := range map[string]string{
		"string":    `unexpected value type "string"`,
		"matrix":    "wanted: an instant vector or a scalar",
		"native":    "native histogram; wanted: numbers",
		"many":      "aggregate them",
		"html":      "what it answers is not of Prometheus' API",
		"half":      "what it answers is not of Prometheus' API",
		"empty":     "holds no result",
		"not known": `the server answers: invalid parameter "query": parse error`,
	} {
		t.Run(query, func(t *testing.T) {
			a := ask(t, server.URL+"/prefix", nil).once(query)
			require.ErrorContains(t, a.Err, want)
			require.ErrorContains(t, a.Err, server.URL)
			require.True(t, a.Answered.IsZero())
			require.Empty(t, a.Result.Elements)
		})
	}
}

func TestServersThatDoNotAnswer(t *testing.T) {
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
			// It is not decoded to be counted.
			one := `{"metric":{},"value":[1,"2"]}`
			_, _ = io.WriteString(w, vector(strings.Repeat(one+",", 5*maxElements)+one))
		case strings.HasPrefix(req.URL.Path, "/denies"):
			http.Error(w, "the secret of the server", http.StatusUnauthorized)
		case strings.HasPrefix(req.URL.Path, "/broken"):
			http.Error(w, "the secret of the server", http.StatusInternalServerError)
		}
	}))
	defer server.Close()
	defer close(release)
	for path, want := range map[string]string{
		"hangs":     "no answer in time",
		"redirects": "redirects are not followed",
		"huge":      "larger than 4 MiB",
		"countless": "more than 10000 elements",
		"denies":    "client error: 401",
		"broken":    "server error: 500",
	} {
		t.Run(path, func(t *testing.T) {
			a := ask(t, server.URL+"/"+path, func(c *Config) {
				if path == "hangs" {
					c.Timeout = 50 * time.Millisecond
				}
			}).once("q")
			require.ErrorContains(t, a.Err, want)
			require.NotContains(t, a.Err.Error(), "the secret")
		})
	}
	t.Run("refuses", func(t *testing.T) {
		gone := httptest.NewServer(nil)
		gone.Close()
		require.ErrorContains(t, ask(t, gone.URL, nil).once("q").Err, "connection refused")
	})
	t.Run("not permitted", func(t *testing.T) {
		forbidden := errors.New("no pod of this namespace")
		got := ask(t, server.URL, func(c *Config) { c.Permit = func(netip.Addr) error { return forbidden } }).once("q")
		require.ErrorIs(t, got.Err, forbidden)
	})
	t.Run("no URL", func(t *testing.T) {
		require.Error(t, ask(t, "http://a b", nil).once("q").Err)
	})
}

// One of several questions that cannot be answered leaves the others alone, and
// what was answered once stands beside the error.
func TestQuestionsAreAnsweredEachByItself(t *testing.T) {
	var mu sync.Mutex
	broken := map[string]bool{"bad": true}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if broken[req.FormValue("query")] {
			w.WriteHeader(http.StatusUnprocessableEntity)
			_, _ = io.WriteString(w, `{"status":"error","errorType":"execution","error":"too many samples"}`)
			return
		}
		_, _ = io.WriteString(w, vector(`{"metric":{},"value":[1,"2"]}`))
	}))
	defer server.Close()
	a := ask(t, server.URL, nil)
	a.Ask([]Question{{"load", "good"}, {"latency", "bad"}})
	<-a.rounds
	require.NoError(t, a.Answers()["load"].Err)
	require.ErrorContains(t, a.Answers()["latency"].Err, "too many samples")
	first := a.Answers()["load"]

	mu.Lock()
	broken["better"] = true
	mu.Unlock()
	a.Ask([]Question{{"load", "better"}})
	require.Equal(t, first, a.Answers()["load"], "what is known stands until the next round, which comes at once")
	<-a.rounds
	got := a.Answers()
	require.NotContains(t, got, "latency", "it is not asked any more")
	require.Error(t, got["load"].Err)
	require.Equal(t, first.Result, got["load"].Result)
	require.Equal(t, "good", got["load"].PromQL, "the query that this is the answer to")
	require.Equal(t, first.Answered, got["load"].Answered)
	require.NoError(t, testutil.GatherAndCompare(a.registry, strings.NewReader(`
# HELP inference_scaler_prometheus_queries_total Queries to Prometheus servers by result: ok, refused (the server would not answer this one) or failed.
# TYPE inference_scaler_prometheus_queries_total counter
inference_scaler_prometheus_queries_total{result="ok"} 1
inference_scaler_prometheus_queries_total{result="refused"} 2
`), "inference_scaler_prometheus_queries_total"))

	a.Ask(nil)
	require.Empty(t, a.Answers())
}

func TestAServerThatTakesNoPOST(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodGet {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		_, _ = io.WriteString(w, vector(`{"metric":{},"value":[1,"2"]}`))
	}))
	defer server.Close()
	require.NoError(t, ask(t, server.URL, nil).once("q").Err)
}

func TestCredentials(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		fmt.Fprint(w, vector(fmt.Sprintf(`{"metric":{},"value":[1,"%d"]}`, len(req.Header.Get("Authorization")))))
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
	got := ask(t, server.URL, withRoots).once("q")
	require.NoError(t, got.Err)
	require.Equal(t, 10.0, got.Result.Elements[0].Value)
	require.ErrorContains(t, ask(t, server.URL, nil).once("q").Err, "certificate")
}

// It asks on its interval, less often while nothing is answered, and no more once closed.
func TestRounds(t *testing.T) {
	server := answers(t, map[string]string{"q": vector("")})
	a := ask(t, server.URL+"/prefix", func(c *Config) { c.Interval = 10 * time.Millisecond })
	a.once("q")
	for range 5 {
		<-a.rounds
	}
	a.Close()
}
