package scrape

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/metricsource"
)

// churn responds with one lasting series of q and n new series per response. line formats
// the series with a number.
func churn(n int, line func(int) string, tail string) http.HandlerFunc {
	next := 0
	return func(w http.ResponseWriter, req *http.Request) {
		var b strings.Builder
		b.WriteString("q{code=\"200\"} 7\n")
		for range n {
			next++
			b.WriteString(line(next))
		}
		text(b.String()+tail)(w, req)
	}
}

// The memory for a target is bounded by the size of its newest body, even if it exports new
// series all the time.
func TestChurnIsBounded(t *testing.T) {
	label := func(i int) string { return fmt.Sprintf("q{code=\"200\",request=\"%d\"} 1\n", i) }
	for name, c := range map[string]struct {
		query string
		line  func(int) string
		tail  string // after the series
		fails bool
	}{
		"new series":                   {`q{code="200"}`, label, "", false},
		"new series, other labels":     {`q{code="200"}`, func(i int) string { return fmt.Sprintf("q{request=\"%d\"} 1\n", i) }, "", false},
		"new names":                    {`{__name__=~"q.*"}`, func(i int) string { return fmt.Sprintf("q%d 1\n", i) }, "", false},
		"new names, not selected":      {`q{code="200"}`, func(i int) string { return fmt.Sprintf("q%d 1\n", i) }, "", false},
		"new series before an error":   {`q{code="200"}`, label, "q x\n", true},
		"other series before an error": {`q{code="200"}`, func(i int) string { return fmt.Sprintf("q{request=\"%d\"} 1\n", i) }, "q x\n", true},
		"a required series is missing": {`q{code="200"}|w`, label, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, setup{interval: 100 * time.Millisecond, needed: strings.Split(c.query, "|")}, func(t *testing.T, r *rig) {
				const n = 30
				r.net.serve("a", churn(n, c.line, c.tail))
				p := pod("a")
				r.group.Set([]Target{p})
				for range 60 { // one scrape each, despite the back-off
					r.after(100 * time.Millisecond)
					p.Ready = !p.Ready
					r.group.Set([]Target{p})
				}
				r.after(0)
				require.Equal(t, c.fails, r.status("a").Err != nil)
				require.Greater(t, len(r.net.look("a").hits), 50)
				require.LessOrEqual(t, len(r.reader("a").series), 2*(n+1)+64+n, "the reader's series")
				require.LessOrEqual(t, r.window.Len(), 2*(n+1), "the window's series")
			})
		})
	}
}

// series responds with n series of q, numbered from first.
func series(first, n int) http.HandlerFunc {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "q{request=\"%d\"} 1\n", first+i)
	}
	return text(b.String())
}

// A window over 10 minutes is limited to 6655 series.
func TestTooManySeries(t *testing.T) {
	inBubble(t, setup{interval: time.Minute, lookback: metricsource.MaxLookback}, func(t *testing.T, r *rig) {
		r.net.serve("a", series(0, 7000))
		r.group.Set([]Target{pod("a")})
		r.after(0)
		require.ErrorIs(t, r.status("a").Err, metricsource.ErrTooManySeries)
		require.Equal(t, 1, r.counted("too_large"))
		require.Empty(t, r.load("sum(q)"), "no part of it is written")
		require.Equal(t, map[string]float64{"a": 0}, r.load("up"))

		r.net.serve("a", series(0, 10))
		r.after(time.Minute + tick)
		require.NoError(t, r.status("a").Err)
		require.Equal(t, map[string]float64{"": 10}, r.load("sum(q)"))
		require.Equal(t, 10, r.window.Len(), "rejected series do not count")
	})
}

// All series change their labels, for example because the model was replaced. Old and new
// series together exceed the limit until the old ones expire.
func TestTargetRecoversWhenAllSeriesChange(t *testing.T) {
	inBubble(t, setup{interval: 5 * time.Minute, lookback: metricsource.MaxLookback}, func(t *testing.T, r *rig) {
		r.net.serve("a", series(0, 4000))
		r.group.Set([]Target{pod("a")})
		r.after(0)
		require.NoError(t, r.status("a").Err)
		r.net.serve("a", series(4000, 4000))
		r.after(4 * metricsource.MaxLookback)
		require.NoError(t, r.status("a").Err)
		require.Equal(t, map[string]float64{"": 4000}, r.load("sum(q)"))
	})
}

// Ended series are kept for the lookback, and count against the limit.
func TestEndedSeriesCountAgainstTheLimit(t *testing.T) {
	inBubble(t, setup{lookback: metricsource.MaxLookback}, func(t *testing.T, r *rig) {
		r.net.serve("a", churn(500, func(i int) string { return fmt.Sprintf("q{request=\"%d\"} 1\n", i) }, ""))
		r.group.Set([]Target{pod("a")})
		r.after(20 * time.Second)
		require.LessOrEqual(t, r.window.Len(), 6655)
	})
}

// Series of failed scrapes do not count against the limit.
func TestFailingTargetDoesNotBlockOthers(t *testing.T) {
	inBubble(t, setup{lookback: metricsource.MaxLookback}, func(t *testing.T, r *rig) {
		line := func(i int) string { return fmt.Sprintf("q{request=\"%d\"} 1\n", i) }
		r.net.serve("bad", churn(2000, line, "q x\n"))
		r.net.serve("good", series(0, 100))
		r.group.Set([]Target{pod("bad")})
		r.after(30 * time.Second)
		require.Error(t, r.status("bad").Err)
		r.group.Set([]Target{pod("bad"), pod("good")})
		r.after(0)
		require.NoError(t, r.status("good").Err)
	})
}
