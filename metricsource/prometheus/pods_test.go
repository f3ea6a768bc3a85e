package prometheus

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/metricsource"
)

// engine returns the series of a pod in Prometheus.
func engine(pod string, waiting, running float64) []any {
	of := fmt.Sprintf(`{namespace="llm",pod=%q,job="podmonitor",instance="10.0.0.1:8000",reason="capacity"}`, pod)
	return []any{"e:waiting" + of, waiting, "e:running" + of, running}
}

// The window contains the same series as after a scrape of the pods.
func TestSeriesOfPods(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, s *fleet) {
		s.store.has(t, "a", append(engine("a", 7, 3), `e:cache{namespace="llm",pod="a"}`, 0.5, `e:other{namespace="llm",pod="a"}`, 1.0)...)
		s.store.has(t, "b", engine("b", 4, 2)...)
		s.store.has(t, "stranger", engine("stranger", 100, 100)...)
		s.store.has(t, "elsewhere", `e:waiting{namespace="tts",pod="a",reason="capacity"}`, 50.0)
		s.after(time.Minute)
		require.Empty(t, s.store.asked(), "before Set")
		s.set("b", "a")
		require.ErrorIs(t, s.status("a").Err, errNotQueried)
		s.after(0)
		require.Equal(t, []string{
			`{__name__=~"e:waiting|e:queue|e:running|e:cache|e:done_total",namespace="llm",pod=~"a|b"}`,
		}, s.store.asked(), "one query for all pods")
		require.Equal(t, map[string]float64{"a": 7, "b": 4}, s.load("e:waiting"))
		require.Equal(t, map[string]float64{"a": 3, "b": 2}, s.load("e:running"))
		require.Equal(t, map[string]float64{"a": 0.5}, s.load("e:cache"))
		require.Empty(t, s.load("e:other"))
		require.Equal(t, map[string]float64{"a": 3}, s.load(`e:running{pod="a",job="vllm",instance="10.0.0.1:8000",namespace="llm",exported_job="",exported_pod=""}`))
		now := time.Now()
		require.Equal(t, []metricsource.Status{{Target: "a", Answered: now, Tried: now}, {Target: "b", Answered: now, Tried: now}}, s.Status())
		require.Equal(t, 1, s.rounds)

		s.store.has(t, "a", engine("a", 0, 0)...)
		s.after(5 * time.Second)
		require.Equal(t, map[string]float64{"a": 0, "b": 4}, s.load("e:waiting"))
		require.Empty(t, s.load("e:cache"), "the series ended")
		require.Equal(t, 2, s.rounds)

		s.set()
		require.Empty(t, s.Status())
		require.Zero(t, s.window.Len(), "the series of a pod are removed with it")
		s.store.asked()
		s.after(time.Minute)
		require.Empty(t, s.store.asked(), "no queries without pods")
	})
}

// Two jobs of Prometheus scrape one pod. The labels of the target replace theirs.
func TestDuplicateSeriesOfAPod(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, s *fleet) {
		s.store.has(t, "a",
			`e:waiting{namespace="llm",pod="a",reason="capacity",job="x",instance="10.0.0.1:1"}`, 7.0,
			`e:waiting{namespace="llm",pod="a",reason="capacity",job="y",instance="10.0.0.1:1"}`, 7.0,
			`e:running{namespace="llm",pod="a",job="x",instance="10.0.0.1:1"}`, 1.0,
			`e:running{namespace="llm",pod="a",job="x",instance="10.0.0.1:2"}`, 2.0)
		s.set("a")
		s.after(0)
		require.Equal(t, map[string]float64{"a": 7}, s.load("e:waiting"), "one port, two jobs")
		require.Equal(t, map[string]float64{"a": 3}, s.load("e:running"), "two ports")
	})
}

// A pod without any series is absent, and faulty after a while.
func TestPodsWithoutSeries(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, s *fleet) {
		s.store.has(t, "a", engine("a", 7, 3)...)
		s.set("a", "b")
		s.after(0)
		require.Equal(t, map[string]float64{"a": 7}, s.load("e:waiting"), "absent, never 0")
		found := time.Now()
		require.Equal(t, metricsource.Status{Target: "b", Tried: found}, s.status("b"), "the pod is new")
		s.after(discoveryTimeout - time.Second)
		require.NoError(t, s.status("b").Err)
		s.after(6 * time.Second)
		require.EqualError(t, s.status("b").Err, "ready for 2m0s, but Prometheus has no series of this pod; it must scrape the pod and set the labels namespace and pod")
		require.Zero(t, s.status("b").Answered)

		// A pod that was found keeps its last samples.
		s.store.has(t, "a")
		s.store.has(t, "b", engine("b", 1, 1)...)
		s.after(5 * time.Second)
		require.NoError(t, s.status("b").Err)
		lost := s.status("a")
		require.ErrorIs(t, lost.Err, errLostPod)
		require.Equal(t, 5*time.Second, lost.Tried.Sub(lost.Answered))
		require.Equal(t, map[string]float64{"a": 7, "b": 1}, s.load("e:waiting"))
		require.Equal(t, map[string]float64{"a": 0, "b": 1}, s.load("up"))

		// A pod that is not ready needs no series, and an outage of the server is not its fault.
		s.set("a", "b", "c")
		s.pods[2].Ready = false
		s.Set(s.pods)
		s.after(5 * time.Minute)
		require.NoError(t, s.status("c").Err)
		s.pods[2].Ready = true
		s.Set(s.pods)
		s.after(time.Minute)
		s.store.fails(unavailable)
		s.after(90 * time.Second)
		require.ErrorContains(t, s.status("c").Err, "server error: 503")
		s.store.fails(nil)
		s.after(time.Minute)
		require.NoError(t, s.status("c").Err)
	})
}

func TestEnginesBeforeTheFirstRequest(t *testing.T) {
	for name, c := range map[string]struct {
		series []any
		second bool // a second query for the engine is expected
		idle   bool
		lacks  bool // required series are missing
	}{
		"another series of the engine": {series: []any{`e:config{namespace="llm",pod="a"}`, 1.0}, second: true, idle: true},
		"one with the other prefix":    {series: []any{`f:config{namespace="llm",pod="a"}`, 1.0}, second: true, idle: true},
		"a selected series":            {series: []any{`e:cache{namespace="llm",pod="a"}`, 0.5}, idle: true},
		"no finished requests":         {series: []any{`e:done_total{namespace="llm",pod="a",code="200"}`, 0.0}, idle: true},
		"finished requests":            {series: []any{`e:done_total{namespace="llm",pod="a",code="200"}`, 3.0}, lacks: true},
		"only failed requests":         {series: []any{`e:done_total{namespace="llm",pod="a",code="500"}`, 3.0}, idle: true},
		"one required series":          {series: []any{`e:running{namespace="llm",pod="a"}`, 3.0}, lacks: true},
		"another engine":               {series: []any{`g:config{namespace="llm",pod="a"}`, 1.0}, second: true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, s *fleet) {
				s.store.has(t, "a", c.series...)
				s.set("a")
				s.after(0)
				asked := s.store.asked()
				if c.second {
					require.Len(t, asked, 2)
					require.Equal(t, `count by (pod) ({__name__=~"(?:e:|f:).*",namespace="llm",pod=~"a"})`, asked[1])
				} else {
					require.Len(t, asked, 1)
				}
				st := s.status("a")
				require.Equal(t, c.idle, st.Idle)
				require.Equal(t, c.idle, !st.Answered.IsZero())
				require.Empty(t, s.load("e:waiting"))
				var none *metricsource.NoSeriesError
				if c.lacks {
					require.ErrorAs(t, st.Err, &none)
				} else {
					require.NoError(t, st.Err)
				}
				up := 1.0
				if !c.idle && !c.lacks {
					up = 0
				}
				require.Equal(t, map[string]float64{"a": up}, s.load("up"))
			})
		})
	}
}

// The last samples are kept through responses without required series.
func TestMissingRequiredSeries(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, s *fleet) {
		s.store.has(t, "a", engine("a", 7, 3)...)
		s.set("a")
		s.after(0)
		good := time.Now()
		s.store.has(t, "a", `e:running{namespace="llm",pod="a",instance="10.0.0.1:8000",reason="capacity"}`, 4.0)
		s.after(5 * time.Second)
		st := s.status("a")
		var none *metricsource.NoSeriesError
		require.ErrorAs(t, st.Err, &none)
		require.Equal(t, []string{`sum by (pod) (e:waiting{reason="capacity"}) or sum by (pod) (e:queue)`}, none.Missing)
		require.Equal(t, good, st.Answered)
		require.Equal(t, time.Now(), st.Tried)
		require.Equal(t, map[string]float64{"a": 7}, s.load("e:waiting"))
		require.Equal(t, map[string]float64{"a": 4}, s.load("e:running"))
		require.Equal(t, map[string]float64{"a": 1}, s.load("up"))
	})
}

// A failed second query does not affect pods with series.
func TestSecondQueryFails(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, s *fleet) {
		s.store.has(t, "a", engine("a", 7, 3)...)
		s.store.failsOn("count")
		s.set("a", "b")
		s.after(0)
		require.NoError(t, s.status("a").Err)
		require.ErrorContains(t, s.status("b").Err, "server error: 503")
	})
}

// During an outage of the server, no pod becomes idle and the last samples are kept.
func TestServerFails(t *testing.T) {
	for name, fault := range map[string]http.HandlerFunc{"refuses": unavailable, "hangs": hang} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, s *fleet) {
				s.store.has(t, "a", engine("a", 7, 3)...)
				s.set("a")
				s.after(0)
				good := s.status("a").Answered
				s.store.fails(fault)
				s.after(10 * time.Minute)
				require.Equal(t, map[string]float64{"a": 7}, s.load("e:waiting"))
				require.Error(t, s.status("a").Err)
				require.Equal(t, good, s.status("a").Answered)
				rounds := s.rounds
				require.Greater(t, rounds, 60, "it is retried")
				s.store.fails(nil)
				s.store.has(t, "a", engine("a", 1, 1)...)
				s.after(10 * time.Second)
				require.NoError(t, s.status("a").Err)
				require.Equal(t, map[string]float64{"a": 1}, s.load("e:waiting"))
			})
		})
	}
}

// The pods of a large fleet are divided among several queries, which fail independently.
func TestManyPods(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, s *fleet) {
		var names []string
		for i := range 250 {
			name := fmt.Sprintf("pod-%04d", i)
			names = append(names, name)
			s.store.has(t, name, engine(name, 1, 0)...)
		}
		s.store.failsOn("pod-0100")
		s.set(names...)
		s.after(0)
		require.Len(t, s.store.asked(), 3)
		require.Equal(t, map[string]float64{"": 150}, s.load("sum(e:waiting)"))
		for i, st := range s.Status() {
			require.Equal(t, i/podsPerQuery == 1, st.Err != nil, st.Target)
		}
	})
}

// Series of other pods, and native histograms, are ignored.
func TestUnexpectedElements(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, s *fleet) {
		s.store.fails(func(w http.ResponseWriter, req *http.Request) {
			if strings.HasPrefix(req.FormValue("query"), "count") {
				s.store.answer(w, req)
				return
			}
			_, _ = w.Write([]byte(vectorOf(`{"metric":{"__name__":"e:running","pod":"b"},"value":[1,"5"]},{"metric":{"__name__":"e:running"},"value":[1,"5"]},` +
				`{"metric":{"__name__":"e:running","pod":"a"},"histogram":[1,{"count":"1","sum":"1","buckets":[[0,"0","1","1"]]}]}`)))
		})
		s.set("a")
		s.after(0)
		require.Empty(t, s.load("e:running"))
		require.Zero(t, s.status("a").Answered)
	})
}

// A pod that becomes ready is queried immediately, but not before minRoundGap.
func TestPodsChange(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, s *fleet) {
		s.store.has(t, "a", engine("a", 7, 3)...)
		s.store.has(t, "b", engine("b", 4, 2)...)
		s.set("a")
		s.after(time.Second)
		s.set("a", "b")
		s.after(0)
		require.Equal(t, 2, s.rounds)
		s.pods[1].Ready = false
		s.Set(s.pods)
		s.after(time.Second)
		require.Equal(t, 2, s.rounds)
		for range 100 { // the readiness flaps
			s.pods[1].Ready = !s.pods[1].Ready
			s.Set(s.pods)
			s.after(10 * time.Millisecond)
		}
		require.LessOrEqual(t, s.rounds, 5)

		// A new pod has the same name. A response about its predecessor must not apply to it.
		release := make(chan struct{})
		s.after(time.Second)
		s.store.fails(func(w http.ResponseWriter, req *http.Request) {
			<-release
			s.store.answer(w, req)
		})
		s.after(5 * time.Second)
		s.pods[0].UID = "another"
		s.Set(s.pods)
		s.store.fails(unavailable)
		close(release)
		s.after(100 * time.Millisecond)
		require.Equal(t, map[string]float64{"b": 4}, s.load("e:waiting"))
		require.Zero(t, s.status("a").Answered)
	})
}

// Elements of own queries belong to the group's pods, and otherwise to the whole fleet.
func TestElementsOfPods(t *testing.T) {
	own := func(c *Config) {
		c.Selection = metricsource.NewSelection(metricsource.Idle{}, nil, nil)
		c.Queries = []metricsource.RemoteQuery{{Name: "load", Query: "sum by (pod) (queue)"}}
	}
	inBubble(t, own, func(t *testing.T, s *fleet) {
		s.store.has(t, "a", `queue{pod="a"}`, 7.0)
		s.store.has(t, "api", `queue{pod="api"}`, 1.0)
		s.after(time.Second)
		require.Empty(t, s.store.asked(), "before Set")
		s.set("a")
		s.after(0)
		require.Equal(t, []string{"sum by (pod) (queue)"}, s.store.asked(), "unchanged")
		require.Equal(t, map[string]float64{"a": 7, "": 1}, s.load(metricsource.RemoteQuery{Name: "load"}.Selector()))
		now := time.Now()
		require.Equal(t, []metricsource.Status{
			{Target: "a", Answered: now, Tried: now}, {Target: "http://prometheus", Answered: now, Tried: now},
		}, s.Status())

		// The pod is removed, but Prometheus still returns its series.
		s.set()
		require.Equal(t, map[string]float64{"": 1}, s.load(metricsource.RemoteQuery{Name: "load"}.Selector()), "immediately")
		s.store.has(t, "api", `queue{pod="api"}`, 2.0)
		s.after(time.Minute)
		require.Equal(t, map[string]float64{"": 2}, s.load(metricsource.RemoteQuery{Name: "load"}.Selector()), "after a minute")
		s.after(departedRetention)
		require.Equal(t, map[string]float64{"": 9}, s.load(metricsource.RemoteQuery{Name: "load"}.Selector()), "after departedRetention it belongs to the fleet")
		s.set("a")
		s.after(time.Second)
		require.Equal(t, map[string]float64{"a": 7, "": 2}, s.load(metricsource.RemoteQuery{Name: "load"}.Selector()))

		// An empty result ends all series; a failure keeps them.
		s.store.has(t, "a")
		s.store.has(t, "api")
		s.after(5 * time.Second)
		require.Empty(t, s.load(metricsource.RemoteQuery{Name: "load"}.Selector()))
		empty := s.Queries()[0]
		require.NoError(t, empty.Err)
		require.WithinDuration(t, time.Now(), empty.Answered, 5*time.Second)
		s.store.has(t, "a", `queue{pod="a"}`, 3.0)
		s.after(5 * time.Second)
		s.store.fails(unavailable)
		s.after(time.Minute)
		require.Equal(t, map[string]float64{"a": 3}, s.load(metricsource.RemoteQuery{Name: "load"}.Selector()))
		require.ErrorContains(t, s.Queries()[0].Err, "server error: 503")
		require.Equal(t, s.Queries()[0].Err, s.status("http://prometheus").Err)
		require.Equal(t, s.Queries()[0].Err, s.status("a").Err)
		require.Greater(t, time.Since(s.status("a").Answered), 50*time.Second)
	})
}

// Own queries and the queries of the pods' series fail independently.
func TestOwnQueriesWithASelection(t *testing.T) {
	inBubble(t, func(c *Config) { c.Queries = []metricsource.RemoteQuery{{Name: "latency", Query: "max(slow)"}} }, func(t *testing.T, s *fleet) {
		s.store.has(t, "a", engine("a", 7, 3)...)
		s.store.has(t, "api", "slow", 0.5)
		s.set("a")
		s.after(0)
		require.Equal(t, map[string]float64{"a": 7}, s.load("e:waiting"))
		require.Equal(t, map[string]float64{"": 0.5}, s.load(metricsource.RemoteQuery{Name: "latency"}.Selector()))
		good := time.Now()
		s.store.failsOn("slow")
		s.after(5 * time.Second)
		require.NoError(t, s.status("a").Err)
		require.Error(t, s.status("http://prometheus").Err)
		require.Equal(t, good, s.status("http://prometheus").Answered)
		s.store.failsOn("e:waiting")
		s.after(5 * time.Second)
		require.Error(t, s.status("a").Err)
		require.NoError(t, s.status("http://prometheus").Err)
		require.Equal(t, map[string]float64{"a": 7}, s.load("e:waiting"))
	})
}
