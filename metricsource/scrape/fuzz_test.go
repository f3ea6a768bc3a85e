package scrape

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/metricsource"
)

// FuzzBody parses arbitrary bytes as the body of a target, twice, so that the second time
// uses the cache. It writes the result to a window.
func FuzzBody(f *testing.F) {
	for _, body := range []string{
		"", "q 1\n", "# TYPE q gauge\nq{a=\"1\",b=\"\\\"\"} 2 1395066363000\n# EOF\n", "e:x 1\ne:done_total 2\n",
		"q 1\nq 2\nq x\n", "q{", "q{a=\"", "{\"q\",a=\"1\"} 1\n", "\"q\" 1\n", "q NaN\nq{x=\"\\n\"} +Inf # {a=\"b\"} 1 2\n",
		"<html>q 1", "q{pod=\"liar\",exported_pod=\"x\"} 1\n", "q{a=\"\xff\"} 1\n", "q{__name__=\"w\"} 1\n", "\x00\nq 1\r\n",
	} {
		for format := range byte(4) {
			f.Add([]byte(body), format)
		}
	}
	formats := []string{"", "text/plain", "application/openmetrics-text", "text/html"}
	exact := setup{needed: []string{"sum(q)"}}
	pattern := setup{needed: []string{`{__name__=~"(q|e:).*"}`, "w"}, lookback: time.Minute}
	pattern.idle = metricsource.Idle{Prefixes: []string{"e:"}, Served: query(f, "e:done_total")}
	s := New(Options{})
	groups := []*Group{s.Open(config(f, exact)), s.Open(config(f, pattern))}

	f.Fuzz(func(t *testing.T, body []byte, kind byte) {
		defer time.AfterFunc(20*time.Second, func() { panic("hangs") }).Stop()
		format, g := formats[kind%4], groups[kind/4%2]
		p := newTarget(g, pod("a"), 0)
		defer p.samples.Remove()
		require.NoError(t, p.reader.prepare())
		first, firstErr := p.reader.parse(body, format)
		var none *metricsource.NoSeriesError
		if firstErr != nil && !errors.As(firstErr, &none) {
			require.Equal(t, reading{}, first)
			require.NotEqual(t, "other", reason(firstErr))
		}
		sum := total(first)
		again, err := p.reader.parse(body, format)
		require.Equal(t, firstErr, err)
		require.Equal(t, sum, total(again), "the cache does not change the result")
		require.Equal(t, first.found, again.found)
		require.Equal(t, first.idle, again.idle)
		for i, point := range again.points {
			require.NotNil(t, point.Series, i)
		}
		at := time.Now()
		_ = p.samples.Merge(at, again.points)
		held := g.cfg.Window.Len()
		require.LessOrEqual(t, held, len(again.points)+seriesOf(err, body))
		_ = p.samples.Commit(at.Add(time.Second), again.points)
		require.LessOrEqual(t, g.cfg.Window.Len(), held)
		p.samples.Remove()
		require.Zero(t, g.cfg.Window.Len())
	})
}

// seriesOf limits the number of series that a rejected body can leave in the window.
func seriesOf(err error, body []byte) int {
	if err == nil {
		return 0
	}
	return len(body)
}

// total is a checksum of the points that treats all NaN values alike.
func total(r reading) (sum [3]float64) {
	sum[0] = float64(len(r.points))
	for i, p := range r.points {
		switch {
		case math.IsNaN(p.Value), math.IsInf(p.Value, 0):
			sum[1]++
		default:
			sum[2] += math.Atan(p.Value) * float64(i%7+1)
		}
	}
	return sum
}
