package metricsource

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestOfPods(t *testing.T) {
	for query, want := range map[string]string{
		`q`:                                   `q{namespace="asr",pod=~"a-0|a\\.b"}`,
		`sum by (pod) (q{x="1"}) or max(r)`:   `sum by (pod) (q{namespace="asr",pod=~"a-0|a\\.b",x="1"}) or max(r{namespace="asr",pod=~"a-0|a\\.b"})`,
		`rate(q[5m])`:                         `rate(q{namespace="asr",pod=~"a-0|a\\.b"}[5m])`,
		`max_over_time((q - r)[1m:1s])`:       `max_over_time((q{namespace="asr",pod=~"a-0|a\\.b"} - r{namespace="asr",pod=~"a-0|a\\.b"})[1m:1s])`,
		`{__name__=~"vllm[:_]x|y"}`:           `{__name__=~"vllm[:_]x|y",namespace="asr",pod=~"a-0|a\\.b"}`,
		`q{namespace="other",pod="stranger"}`: `q{namespace="asr",namespace="other",pod="stranger",pod=~"a-0|a\\.b"}`,
		`vector(1)`:                           `vector(1)`,
	} {
		q, err := ParseRemoteQuery(query)
		require.NoError(t, err)
		got := q.OfPods("asr", []string{"a-0", "a.b"})
		require.Equal(t, want, got)
		_, err = ParseRemoteQuery(got)
		require.NoError(t, err, "it is still PromQL")
	}
}

// Another server's limits are its own; what is no PromQL, or no numbers, is not.
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
