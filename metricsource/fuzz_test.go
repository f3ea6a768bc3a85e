package metricsource

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"
)

var queries = []string{
	"sum(vllm:num_requests_waiting)", `sum by (pod) ({__name__=~"vllm[:_]num_requests_(waiting|running)"})`,
	`sum(m{code!~"5.."}) or vector(0)`, "rate(m_total[1m])", "max_over_time(m[5m:1s] offset 1m)", "m @ 0", "absent(m)", "time()", "1/0",
	`histogram_quantile(0.95, sum by (le) (rate(h_bucket[1m])))`, `label_replace(m, "pod", "$1", "x", "(.*)")`, "up == 0", "-m ^ 2 % 3",
	"topk(3, m)", "count_values(\"pod\", m)", "m * on (pod) group_left n", "quantile_over_time(2, m[1m])", "sort_desc(m)", "info(m)",
}

// FuzzQuery checks that a query is rejected, or evaluated in bounded time with a result
// of bounded size.
func FuzzQuery(f *testing.F) {
	for _, q := range queries {
		f.Add(q, 3.0)
	}
	f.Fuzz(func(t *testing.T, text string, value float64) {
		defer time.AfterFunc(20*time.Second, func() { panic("hangs") }).Stop()
		q, err := ParseQuery(text)
		if err != nil {
			require.NotEmpty(t, err.Error())
			return
		}
		require.LessOrEqual(t, q.lookback, MaxLookback)
		selection := NewSelection(Idle{}, []*Query{q}, nil)
		r := newRig(t, selection.Lookback())
		for second := range 20 {
			for _, pod := range []string{"a", "b"} {
				r.commit(pod, at(float64(second)), "m", value, `m{x="1"}`, 2.0, "m_total", value*float64(second), "n", 1.0,
					`h_bucket{le="1"}`, float64(second), `h_bucket{le="+Inf"}`, float64(2*second), "vllm:num_requests_waiting", 3.0)
			}
		}
		begun := time.Now()
		result, err := q.Eval(t.Context(), r.window, at(20))
		require.Less(t, time.Since(begun), 6*queryTimeout)
		if err != nil {
			require.ErrorContains(t, err, "query ")
			return
		}
		require.LessOrEqual(t, len(result.Elements), maxElements)
	})
}

// FuzzPodSelector checks that the selector for a server is PromQL, matches only these pods
// of this namespace, and matches every name that the query selects.
func FuzzPodSelector(f *testing.F) {
	for _, q := range queries {
		f.Add(q, "llm", "vllm-0", `a"b\|c.*`)
	}
	f.Fuzz(func(t *testing.T, text, namespace, pod, other string) {
		defer time.AfterFunc(20*time.Second, func() { panic("hangs") }).Stop()
		q, err := ParseQuery(text)
		if err != nil {
			return
		}
		for _, name := range []string{namespace, pod, other} {
			if !utf8.ValidString(name) { // never the name of a Kubernetes object
				return
			}
		}
		s := NewSelection(Idle{Prefixes: []string{other}, Served: q}, []*Query{q}, nil)
		exact, _ := s.Names()
		for _, remote := range []string{s.PodSelector(namespace, []string{pod, other}), s.EngineQuery(namespace, []string{pod, other})} {
			if remote == "" || len(remote) > MaxQueryLength {
				continue
			}
			expr, err := parseExpr(remote)
			require.NoError(t, err, remote)
			selectors := parser.ExtractSelectors(expr)
			require.Len(t, selectors, 1)
			of, in, named := false, false, false
			for _, m := range selectors[0] {
				in = in || m.Name == "namespace" && m.Type == labels.MatchEqual && m.Value == namespace
				of = of || m.Name == "pod" && m.Matches(pod) && m.Matches(other) && (pod == "x" || other == "x" || !m.Matches("x"))
				named = named || m.Name == model.MetricNameLabel && !slices.ContainsFunc(exact, func(n string) bool { return !m.Matches(n) })
			}
			require.True(t, in && of, remote)
			require.True(t, named || strings.HasPrefix(remote, "count"), remote)
		}
	})
}

func TestWindowKeepsExtremeValues(t *testing.T) {
	for _, v := range []float64{0, math.Copysign(0, -1), math.Inf(1), math.Inf(-1), math.MaxFloat64, math.SmallestNonzeroFloat64, -1e300} {
		r := newRig(t, 0)
		r.commit("a", at(1), "m", v)
		require.Equal(t, map[string]float64{"a": v}, r.eval("m", at(2)))
	}
}
