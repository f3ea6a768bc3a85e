package metricsource

import (
	"context"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// at returns the time at this number of seconds after the epoch of these tests.
func at(seconds float64) time.Time { return epoch.Add(time.Duration(seconds * float64(time.Second))) }

// rig is a window with helpers to write readings and to evaluate queries.
type rig struct {
	t       *testing.T
	window  *Window
	targets map[string]*Target
}

func newRig(t *testing.T, lookback time.Duration) *rig {
	return &rig{t: t, window: NewWindow(lookback), targets: map[string]*Target{}}
}

func (r *rig) target(pod string) *Target {
	if r.targets[pod] == nil {
		r.targets[pod] = r.window.Target(labels.FromStrings("pod", pod, "job", "vllm"))
	}
	return r.targets[pod]
}

func (r *rig) commit(pod string, when time.Time, series ...any) {
	t := r.target(pod)
	var points []Point
	for i := 0; i < len(series); i += 2 {
		ls, err := promqlParser().ParseMetric(series[i].(string))
		require.NoError(r.t, err)
		points = append(points, Point{t.Series(ls), series[i+1].(float64)})
	}
	require.NoError(r.t, t.Commit(when, points))
}

func (r *rig) eval(query string, when time.Time) map[string]float64 {
	q, err := ParseQuery(query)
	require.NoError(r.t, err)
	result, err := q.Eval(r.t.Context(), r.window, when)
	require.NoError(r.t, err)
	out := map[string]float64{}
	for _, e := range result.Elements {
		out[e.Pod] += e.Value
	}
	return out
}

func TestInstantQueries(t *testing.T) {
	r := newRig(t, 0)
	r.commit("a", at(1), `q{model="m"}`, 7.0, `q{model="n"}`, 1.0)
	r.commit("b", at(1.5), `q{model="m"}`, 4.0)
	require.Equal(t, map[string]float64{"a": 8, "b": 4}, r.eval(`sum by (pod) (q)`, at(2)))
	require.Equal(t, map[string]float64{"": 12}, r.eval(`sum(q)`, at(2)))
	require.Equal(t, map[string]float64{"": 12}, r.eval(`scalar(sum(q))`, at(2)))
	require.Equal(t, map[string]float64{"a": 1, "b": 1}, r.eval(`up{job="vllm"}`, at(2)))
	require.Equal(t, map[string]float64{"a": 7, "b": 4}, r.eval(`{__name__=~"q|w", model="m"}`, at(2)))
	require.Equal(t, map[string]float64{"a": 7, "b": 4}, r.eval(`{__name__=~"q.*", model="m"}`, at(2)))
	require.Empty(t, r.eval(`sum(absent_metric)`, at(2)))
}

func TestFailedTargetKeepsItsLastSamples(t *testing.T) {
	r := newRig(t, 0)
	r.commit("a", at(0), "q", 7.0)
	r.target("a").Fail(at(1))
	require.Equal(t, map[string]float64{"a": 7}, r.eval("q", at(3600)))
	require.Equal(t, map[string]float64{"a": 0}, r.eval("up", at(3600)))
	r.target("a").Remove()
	require.Empty(t, r.eval("q", at(3601)))
	require.Empty(t, r.eval("up", at(3601)))
	require.Zero(t, r.window.Len())
}

func TestSeriesEndsWhenItIsNoLongerExported(t *testing.T) {
	for _, lookback := range []time.Duration{0, time.Minute} {
		r := newRig(t, lookback)
		r.commit("a", at(0), "q", 7.0, "w", 1.0)
		r.commit("a", at(1), "w", 2.0)
		require.Empty(t, r.eval("q", at(1)), lookback)
		require.Equal(t, map[string]float64{"a": 2}, r.eval("w", at(1)))
		r.commit("a", at(2), "q", 3.0, "w", 2.0)
		require.Equal(t, map[string]float64{"a": 3}, r.eval("q", at(2)))
		r.commit("a", at(3), "w", 2.0)
		r.commit("a", at(120), "w", 2.0)
		require.Equal(t, 1, r.window.Len(), "an ended series is dropped once no query can read it")
	}
}

func TestMergeKeepsSeriesOfTheLastCompleteReading(t *testing.T) {
	r := newRig(t, 0)
	r.commit("a", at(0), "q", 7.0, "w", 1.0)
	target := r.target("a")
	w, x := target.Series(labels.FromStrings(model.MetricNameLabel, "w")), target.Series(labels.FromStrings(model.MetricNameLabel, "x"))
	require.NoError(t, target.Merge(at(1), []Point{{w, 5}, {x, 1}}))
	require.Equal(t, map[string]float64{"a": 13}, r.eval(`sum by (pod) ({__name__=~"q|w|x"})`, at(1)))
	require.NoError(t, target.Merge(at(2), []Point{{w, 5}}))
	require.Equal(t, map[string]float64{"a": 12}, r.eval(`sum by (pod) ({__name__=~"q|w|x"})`, at(2)), "a series that was never in a complete reading ends")
}

func TestRangeQueries(t *testing.T) {
	r := newRig(t, time.Minute)
	for s := range 121 {
		r.commit("a", at(float64(s)), `done_total`, float64(10*s), `lat_bucket{le="1"}`, float64(9*s), `lat_bucket{le="+Inf"}`, float64(10*s), "q", float64(s%30))
	}
	now := at(120)
	require.InDelta(t, 10, r.eval(`rate(done_total[1m])`, now)["a"], 0.001)
	require.InDelta(t, 600, r.eval(`increase(done_total[1m])`, now)["a"], 0.1)
	require.Equal(t, 29.0, r.eval(`max_over_time(q[1m])`, now)["a"])
	require.InDelta(t, 0.5/0.9, r.eval(`histogram_quantile(0.5, sum by (le) (rate(lat_bucket[1m])))`, now)[""], 0.01)
	require.Equal(t, 10.0, r.eval(`q offset 20s`, now)["a"])
	require.Equal(t, 29.0, r.eval(`max_over_time(q[50s:1s])`, now)["a"])
	require.LessOrEqual(t, len(r.window.byName["q"][0].samples), 90, "samples beyond the lookback are deleted")
}

func TestSamplesAreThinnedOverLongLookbacks(t *testing.T) {
	r := newRig(t, MaxLookback)
	for i := range 20_000 {
		r.commit("a", at(float64(i)/10), "q", float64(i))
	}
	s := r.window.byName["q"][0]
	require.LessOrEqual(t, int64(len(s.samples)), maxPoints*4/3+2)
	require.Equal(t, 19_999.0, s.samples[len(s.samples)-1].v, "the newest sample is kept")
}

func TestClockSetBackWithinTheRetention(t *testing.T) {
	r := newRig(t, time.Minute)
	r.commit("a", at(100), "q", 1.0)
	r.commit("a", at(50), "q", 2.0)
	require.Equal(t, map[string]float64{"a": 2}, r.eval("q", at(51)))
}

// After the clock is set back, series without a new sample stay visible, and rates remain
// correct.
func TestClockSetBack(t *testing.T) {
	for _, by := range []float64{10, 50, 500} {
		r := newRig(t, time.Minute)
		for second := range 100 {
			r.commit("a", at(1000+float64(second)), "q", 1.0+float64(second))
			r.commit("b", at(1000+float64(second)), "q", 4.0*float64(second))
		}
		now := 1100 - by
		r.commit("a", at(now), "q", 101.0)
		require.Equal(t, map[string]float64{"a": 101, "b": 396}, r.eval("q", at(now+0.5)), by)
		rates := r.eval("rate(q[1m])", at(now+0.5))
		require.Greater(t, rates["b"], 2.0, by)
		r.commit("a", at(now+1), "q", 102.0)
		r.commit("b", at(now+1), "q", 400.0)
		require.Equal(t, map[string]float64{"a": 102, "b": 400}, r.eval("q", at(now+1)), by)
		require.Equal(t, map[string]float64{}, r.eval("q offset 5m", at(now+1)), by)
	}
}

func TestSampleWrittenDuringAQuery(t *testing.T) {
	r := newRig(t, 0)
	r.commit("a", at(1), "q", 7.0)
	r.commit("a", at(2), "q", 8.0)
	require.Equal(t, map[string]float64{"a": 8}, r.eval("sum by (pod) (q)", at(1.999)))
}

func TestLastDuplicateSeriesApplies(t *testing.T) {
	r := newRig(t, time.Minute)
	r.commit("a", at(0), "q", 1.0, "q", 2.0)
	require.Equal(t, map[string]float64{"a": 2}, r.eval("q", at(1)))
}

func TestTargetLabelsTakePrecedence(t *testing.T) {
	r := newRig(t, 0)
	r.commit("a", at(0), `q{pod="liar",job="x"}`, 1.0)
	require.Equal(t, map[string]float64{"a": 1}, r.eval(`q{exported_pod="liar",exported_job="x",job="vllm"}`, at(1)))
}

func TestWindowLimitsSeries(t *testing.T) {
	w := NewWindow(0)
	w.maxSeries = 3
	a, b := w.Target(labels.FromStrings("pod", "a")), w.Target(labels.FromStrings("pod", "b"))
	points := func(target *Target, names ...string) (all []Point) {
		for _, n := range names {
			all = append(all, Point{Series: target.Series(labels.FromStrings(model.MetricNameLabel, n))})
		}
		return all
	}
	require.NoError(t, a.Commit(at(0), points(a, "a", "b")))
	require.ErrorIs(t, b.Commit(at(0), points(b, "a", "b")), ErrTooManySeries)
	require.NoError(t, b.Commit(at(1), points(b, "a")))
	require.NoError(t, a.Commit(at(1), points(a, "c", "d")), "ended series do not block their replacements")
	require.Equal(t, 3, w.Len())
	a.Remove()
	require.NoError(t, a.Commit(at(2), points(a, "a")), "a reading after Remove is discarded")
	require.Equal(t, 1, w.Len())
	require.Less(t, NewWindow(MaxLookback).maxSeries, MaxSeries, "a long lookback allows fewer series")
}

func TestParseQueryRejects(t *testing.T) {
	for text, want := range map[string]string{
		`sum(`:  `is not PromQL`,
		`q[5m]`: `yields a range vector`,
		`label_replace(q,"a","$1","b","((a{9}){9})")`: `90 repetitions`,
		`"text"`:                            `yields a string`,
		`rate(q[11m])`:                      `looks back 11m0s; at most 10m0s`,
		`rate(q[6m] offset 5m)`:             `looks back 11m0s; at most 10m0s`,
		`max_over_time(q[9m:1s] offset 2m)`: `looks back 11m0s`,
		`q offset -1m`:                      `looks ahead`,
		`q @ 0`:                             `has an @ modifier, which is not supported`,
		`max_over_time(q[1m:1ms])`:          `a subquery with a step of 1ms; at least 1s`,
		`max_over_time(max_over_time(q[1m:1s])[1m:1s])`: `a subquery within a subquery`,
		`q{a=~"b{0,99}c"}`:                          `repetitions (x{9} counts as 9); at most 64`,
		`q{a!~"` + strings.Repeat("a|", 600) + `"}`: `regular expression of 1200 bytes`,
		`label_join(label_join(label_join(q,"a","","a","a"),"a","","a","a"),"a","","a","a")`: `label_replace more than 2 times`,
		strings.Repeat("q", 4097):                                            `at most 4096`,
		`label_replace(q,"a","$1$1$1$1$1$1$1$1$1","b","(.*)")`:               `with 9 references to labels and 18 bytes of text; at most 8 and 256`,
		`label_replace(q,"a","` + strings.Repeat("x", 257) + `","b","(.*)")`: `257 bytes of text`,
		`label_join(q,"a","` + strings.Repeat("x", 100) + `","b","c")`:       `400 bytes of text`,
		`label_join(q,"a","","b","c","d","e","f","g","h","i","j")`:           `label_join with 9 references`,
		`label_replace(q,"a","$1","b","(.{0,999})")`:                         `repetitions (x{9} counts as 9); at most 64`,
		`label_replace(q,"a","$1","b","(` + strings.Repeat("a?", 70) + `)")`: `70 repetitions`,
		`label_replace(q,"a","$1","b","(")`:                                  `invalid regular expression`,
		`q{a=~"` + strings.Repeat("[a-z]?x*", 125) + `"}`:                    `250 repetitions`,
	} {
		_, err := ParseQuery(text)
		require.ErrorContains(t, err, want, text)
	}
}

func TestEvalReturnsNaN(t *testing.T) {
	r := newRig(t, time.Minute)
	r.commit("a", at(0), `lat_bucket{le="1"}`, 0.0, `lat_bucket{le="+Inf"}`, 0.0)
	r.commit("a", at(1), `lat_bucket{le="1"}`, 0.0, `lat_bucket{le="+Inf"}`, 0.0)
	require.True(t, math.IsNaN(r.eval(`histogram_quantile(0.5, sum by (le) (rate(lat_bucket[1m])))`, at(1))[""]))
}

func TestSelection(t *testing.T) {
	parse := func(text string, requirements ...string) *Query {
		q, err := ParseQuery(text, requirements...)
		require.NoError(t, err)
		return q
	}
	load := parse(`sum by (pod) (e:waiting) or max(e:stream)`, `{__name__=~"e[:_]waiting"}`)
	custom := parse(`sum(errors_total{code="500"}) or vector(0)`)
	brake := parse(`avg by (pod) (e:kv)`)
	w := NewSelection(Idle{Prefixes: []string{"e:"}, Served: parse(`e:done_total`)}, []*Query{load, custom}, []*Query{brake})

	exact, match := w.Names()
	require.Equal(t, []string{"e:done_total", "e:kv", "e:stream", "e:waiting", "errors_total"}, exact)
	require.Nil(t, match)

	role := func(s string) Role {
		ls, err := promqlParser().ParseMetric(s)
		require.NoError(t, err)
		r, ok := w.Role(ls)
		require.True(t, ok, s)
		return r
	}
	require.Equal(t, []string{"e:waiting (under any of its 2 names)"}, w.Missing(role(`e:kv`).Join(role(`e:stream`))))
	require.Empty(t, w.Missing(role(`e:waiting`)))
	require.True(t, role(`e:done_total`).Served)
	_, wanted := w.Role(labels.FromStrings(model.MetricNameLabel, "errors_total", "code", "200"))
	require.False(t, wanted)

	exact, match = NewSelection(Idle{}, []*Query{parse(`{__name__=~"e:.*"}`)}, nil).Names()
	require.Empty(t, exact)
	require.True(t, match("e:x"))
	require.False(t, match("f:x"))
}

func TestUpIsNotRequired(t *testing.T) {
	q, err := ParseQuery(`sum(up)`)
	require.NoError(t, err)
	w := NewSelection(Idle{}, []*Query{q}, nil)
	require.Empty(t, w.Missing(Role{}))
	exact, match := w.Names()
	require.Empty(t, exact)
	require.Nil(t, match)
	_, wanted := w.Role(labels.FromStrings(model.MetricNameLabel, "up"))
	require.False(t, wanted)
}

func TestNameVariantsAreAFiniteSet(t *testing.T) {
	q, err := ParseQuery(`sum by (pod) ({__name__=~"vllm[:_]num_requests_waiting|vllm[:_]num_requests_waiting_total"})`)
	require.NoError(t, err)
	exact, match := NewSelection(Idle{}, []*Query{q}, nil).Names()
	require.Nil(t, match)
	require.Len(t, exact, 4)
}

// The version changes whenever the result of a timeless query can change.
func TestVersion(t *testing.T) {
	r := newRig(t, time.Minute)
	state := func() uint64 {
		version, _ := r.window.Version(at(100))
		return version
	}
	last := state()
	changed := func(want bool, after string) {
		t.Helper()
		require.Equal(t, want, state() != last, after)
		last = state()
	}
	r.commit("a", at(1), "m", 1.0)
	changed(true, "first sample")
	r.commit("a", at(2), "m", 1.0)
	changed(false, "unchanged value")
	r.commit("a", at(3), "m", 2.0)
	changed(true, "new value")
	r.commit("a", at(2), "m", 2.0)
	changed(false, "unchanged value, clock set back")
	r.commit("a", at(4), "m", math.NaN())
	changed(true, "NaN")
	r.commit("a", at(5), "m", math.NaN())
	changed(false, "unchanged NaN")
	r.commit("a", at(6), "n", 1.0)
	changed(true, "one series ends, another begins")
	r.target("a").Fail(at(7))
	changed(true, "up is 0")
	r.target("a").Fail(at(8))
	changed(false, "up is still 0")
	_, whole := r.window.Version(at(8))
	require.True(t, whole)
	_, whole = r.window.Version(at(7.999))
	require.False(t, whole, "an earlier query does not read the newest sample")
	r.target("a").Remove()
	changed(true, "target removed")
	for query, timeless := range map[string]bool{
		"sum(m)": true, "m or vector(0)": true, "scalar(m) > bool 1": true, "time()": false, "m + on () hour()": false, "timestamp(m)": false,
		"rate(m[1m])": false, "m offset 1m": false, "max_over_time(m[1m:1s])": false, "sum(m) and on () (minute() > 3)": false, "day_of_week(m)": false,
	} {
		q, err := ParseQuery(query)
		require.NoError(t, err)
		require.Equal(t, timeless, q.Timeless(), query)
	}
}

func TestWindowLimitsLabels(t *testing.T) {
	w := NewWindow(MaxLookback)
	a := w.Target(labels.FromStrings("pod", "a"))
	long := strings.Repeat("x", 1<<19)
	reading := func(from, n int) (all []Point) {
		for i := range n {
			all = append(all, Point{Series: a.Series(labels.FromStrings(model.MetricNameLabel, "q", "i", strconv.Itoa(from+i), "long", long))})
		}
		return all
	}
	require.ErrorIs(t, a.Commit(at(0), reading(0, 33)), ErrTooManySeries)
	for second := range 100 {
		require.NoError(t, a.Commit(at(float64(second)), reading(8*second, 8)))
		require.LessOrEqual(t, w.size, maxLabels, "ended series are dropped at the limit")
	}
	a.Remove()
	require.Zero(t, w.size)
}

// The size of the labels that a query creates, and the number of series that it reads,
// are limited during the evaluation.
func TestEvaluationIsLimited(t *testing.T) {
	w := NewWindow(0)
	a := w.Target(labels.FromStrings("pod", "a"))
	var points []Point
	for i := range 500 {
		points = append(points, Point{Series: a.Series(labels.FromStrings(model.MetricNameLabel, "q", "i", strconv.Itoa(i), "b", strings.Repeat("x", 10<<10)))})
	}
	require.NoError(t, a.Commit(at(0), points))
	eval := func(ctx context.Context, text string) error {
		q, err := ParseQuery(text)
		require.NoError(t, err)
		_, err = q.Eval(ctx, w, at(1))
		return err
	}
	require.NoError(t, eval(t.Context(), `count(label_replace(q,"a","$1","b","(.*)"))`))
	require.ErrorContains(t, eval(t.Context(), `count(label_replace(q,"a","$1$1$1","b","(.*)"))`), "could create more than 16 MiB of labels")
	cancelled, cancel := context.WithCancel(t.Context())
	found, err := querier{window: w, maxt: at(1).UnixMilli()}.all(cancelled)
	require.NoError(t, err)
	require.Equal(t, 500, found)
	cancel()
	_, err = querier{window: w, maxt: at(1).UnixMilli()}.all(cancelled)
	require.ErrorIs(t, err, context.Canceled)
	m := meter{series: maxQuerySeries - 1}
	require.NoError(t, m.count(points[0].Series))
	require.ErrorContains(t, m.count(points[0].Series), "more than 1000000 series are selected")
}

// all counts the series of the metric q.
func (q querier) all(ctx context.Context) (n int, err error) {
	set := q.Select(ctx, false, nil, labels.MustNewMatcher(labels.MatchEqual, model.MetricNameLabel, "q"))
	for set.Next() {
		n++
	}
	return n, set.Err()
}

func TestFailedReadingsDoNotUpdateTheWindow(t *testing.T) {
	w := NewWindow(0)
	x := w.Target(labels.FromStrings("pod", "a"))
	now := time.Now()
	x.Fail(now)
	require.True(t, w.Updated().IsZero())
	x.Fail(now.Add(-time.Minute)) // the clock has been set back
	require.True(t, w.Updated().IsZero())
}
