package metricsource

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestQueryOfPods(t *testing.T) {
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
