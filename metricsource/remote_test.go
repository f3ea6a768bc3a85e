package metricsource

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPodSelector(t *testing.T) {
	for name, c := range map[string]struct {
		queries []string
		want    string
	}{
		"one name":           {[]string{`sum by (pod) (q{x="1"})`}, `{__name__=~"q",namespace="asr",pod=~"a-0|a\\.b"}`},
		"duplicate names":    {[]string{`q + r`, `{__name__=~"vllm[:_]x|y"}`, `max(q)`}, `{__name__=~"q|r|vllm[:_]x|y",namespace="asr",pod=~"a-0|a\\.b"}`},
		"name with a quote":  {[]string{`{"q.\"x"}`}, `{__name__=~"q\\.\"x",namespace="asr",pod=~"a-0|a\\.b"}`},
		"any name":           {[]string{`{job="x"}`, `{__name__!="q",job="x"}`}, `{__name__=~".+",namespace="asr",pod=~"a-0|a\\.b"}`},
		"up is not exported": {[]string{`q and up`}, `{__name__=~"q",namespace="asr",pod=~"a-0|a\\.b"}`},
		"no series":          {[]string{`vector(1)`}, ""},
		"no queries":         {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var queries []*Query
			for _, text := range c.queries {
				q, err := ParseQuery(text)
				require.NoError(t, err)
				queries = append(queries, q)
			}
			w := NewSelection(Idle{}, queries, nil)
			got := w.PodSelector("asr", []string{"a-0", "a.b"})
			require.Equal(t, c.want, got)
			require.Empty(t, w.EngineQuery("asr", []string{"a-0"}))
			if got != "" {
				_, err := ParseRemoteQuery(got)
				require.NoError(t, err)
			}
		})
	}
}

func TestEngineQuery(t *testing.T) {
	served, err := ParseQuery(`e:done_total`)
	require.NoError(t, err)
	w := NewSelection(Idle{Prefixes: []string{"e:", "f."}, Served: served}, nil, nil)
	got := w.EngineQuery("asr", []string{"a-0", "a.b"})
	require.Equal(t, `count by (pod) ({__name__=~"(?:e:|f\\.).*",namespace="asr",pod=~"a-0|a\\.b"})`, got)
	_, err = ParseRemoteQuery(got)
	require.NoError(t, err)
}

// The limits of this package do not apply to remote queries, but the syntax and the type
// are checked.
func TestParseRemoteQuery(t *testing.T) {
	q, err := ParseRemoteQuery(`max_over_time(q[1d]) / on (pod) (r offset 2h)`)
	require.NoError(t, err)
	require.Equal(t, 24*time.Hour, q.Lookback())
	for _, query := range []string{`q @ 100`, `q offset -5m`, `sum(rate(q[30m:100ms]))`} {
		_, err := ParseRemoteQuery(query)
		require.NoError(t, err, query)
	}
	for query, want := range map[string]string{
		`sum(`:                             "is not PromQL",
		`q[5m]`:                            "yields a range vector; wanted: an instant vector or a scalar",
		`"text"`:                           "yields a string",
		strings.Repeat("q + ", 1100) + "q": "at most 4096",
	} {
		_, err := ParseRemoteQuery(query)
		require.ErrorContains(t, err, want)
	}
}
