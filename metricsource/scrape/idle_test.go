package scrape

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/metricsource"
)

// idleSetup is for an engine that exports no load before its first request.
func idleSetup(t *testing.T) setup {
	return setup{
		needed:   []string{"sum(e:waiting)"},
		optional: []string{"e:cache"},
		idle:     metricsource.Idle{Prefixes: []string{"e:", "f:"}, Served: query(t, `e:done_total{code="200"}`)},
	}
}

func TestResponsesWithoutTheLoad(t *testing.T) {
	for name, c := range map[string]struct {
		serve  http.HandlerFunc
		idle   bool
		format string
	}{
		"another series of the engine":    {serve: text("# HELP e:waiting …\ne:config{v=\"1\"} 1\n"), idle: true},
		"one with the other prefix":       {serve: text("f:config 1\n"), idle: true},
		"a selected series":               {serve: text("e:cache 0.5\n"), idle: true},
		"no finished requests":            {serve: text("e:done_total{code=\"200\"} 0\n"), idle: true},
		"only failed requests":            {serve: text("e:done_total{code=\"500\"} 3\n"), idle: true},
		"finished requests":               {serve: text("e:config 1\ne:done_total{code=\"200\"} 3\n")},
		"finished requests in one series": {serve: text("e:done_total{code=\"200\",m=\"a\"} 3\ne:done_total{code=\"200\",m=\"b\"} 0\n")},
		"another engine":                  {serve: text("g:waiting 3\n")},
		"only comments":                   {serve: text("# TYPE e:waiting gauge\n")},
		"empty":                           {serve: text("")},
		"empty OpenMetrics":               {serve: typed(openMetrics, "# EOF\n")},
		"HTML page":                       {serve: typed("text/html; charset=utf-8", "<html>\n<body>e:waiting 1</body>\n"), format: "text/html"},
		"JSON":                            {serve: typed("application/json", `{"e:waiting": 1}`), format: "application/json"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, idleSetup(t), func(t *testing.T, r *rig) {
				r.net.serve("a", c.serve)
				r.group.Set([]Target{pod("a")})
				r.after(5*time.Second + tick)
				s := r.status("a")
				require.Empty(t, r.load("e:waiting"), "missing is never zero")
				require.Equal(t, map[string]float64{"a": 1}, r.load("up"), "it responds")
				require.GreaterOrEqual(t, len(r.gaps("a")), 5, "no back-off")
				require.Equal(t, c.idle, s.Idle)
				if c.idle {
					require.NoError(t, s.Err)
					require.Equal(t, s.Tried, s.Answered)
					require.NotZero(t, r.counted("ok"))
					return
				}
				want := &metricsource.NoSeriesError{Missing: []string{"sum(e:waiting)"}, Format: c.format}
				require.Equal(t, want, s.Err)
				require.Zero(t, s.Answered)
				require.NotZero(t, r.counted("no_series"))
				message := "the target responds, but exports no sum(e:waiting)"
				if c.format != "" {
					message += " (the response is " + c.format + ")"
				}
				require.EqualError(t, s.Err, message)
			})
		})
	}
}

func TestEngineWithoutGaugesBeforeItsFirstRequest(t *testing.T) {
	inBubble(t, idleSetup(t), func(t *testing.T, r *rig) {
		step := func(body string) metricsource.Status {
			t.Helper()
			r.net.serve("a", python(body))
			r.after(time.Second)
			return r.status("a")
		}
		r.net.serve("a", python("e:config 1\n"))
		r.group.Set([]Target{pod("a")})
		r.after(2 * tick)
		require.True(t, step("e:config 1\ne:done_total{code=\"200\"} 0\n").Idle)

		s := step("e:waiting 7\ne:done_total{code=\"200\"} 0\n")
		require.False(t, s.Idle)
		require.Equal(t, map[string]float64{"a": 7}, r.load("e:waiting"), "the first request is visible immediately")

		s = step("e:done_total{code=\"200\"} 5\n")
		var none *metricsource.NoSeriesError
		require.ErrorAs(t, s.Err, &none)
		require.False(t, s.Idle)
		require.Equal(t, s.Answered.Add(time.Second), s.Tried)
		require.Equal(t, map[string]float64{"a": 7}, r.load("e:waiting"), "the last samples are kept")
		require.Equal(t, map[string]float64{"a": 5}, r.load("e:done_total"), "exported series are updated")
		require.Equal(t, map[string]float64{"a": 1}, r.load("up"))

		s = step("e:waiting 2\ne:done_total{code=\"200\"} 6\n")
		require.NoError(t, s.Err)
		require.Equal(t, map[string]float64{"a": 2}, r.load("e:waiting"))

		require.True(t, step("e:config 1\n").Idle, "the container was restarted")
		require.Empty(t, r.load("e:waiting"))
		require.Empty(t, r.load("e:done_total"))
	})
}

func TestEngineWithPermanentGaugesIsNeverIdle(t *testing.T) {
	inBubble(t, setup{needed: []string{"e:waiting", "sum(e:running)"}}, func(t *testing.T, r *rig) {
		r.net.serve("a", text("e:running 7\ne:config 1\n"))
		r.group.Set([]Target{pod("a")})
		r.after(0)
		require.EqualError(t, r.status("a").Err, "the target responds, but exports no e:waiting")
		r.net.serve("a", text("e:config 1\n"))
		r.after(time.Second + tick)
		require.EqualError(t, r.status("a").Err, "the target responds, but exports no e:waiting, and no sum(e:running)")
		require.Empty(t, r.load("e:running"), "only series of a complete reading are kept")
	})
}

// Incomplete responses lack different series. The last samples of missing series are kept
// until the next complete response.
func TestLastSamplesAreKeptThroughIncompleteResponses(t *testing.T) {
	inBubble(t, setup{needed: []string{"e:waiting", "e:running"}, lookback: time.Minute}, func(t *testing.T, r *rig) {
		r.net.serve("a", text("e:running 2\ne:waiting 7\n"))
		r.group.Set([]Target{pod("a")})
		r.after(tick)
		for _, body := range []string{"e:running 3\n", "e:config 1\n", "", "e:waiting 8\n", ""} {
			r.net.serve("a", text(body))
			r.after(time.Second)
		}
		require.Equal(t, map[string]float64{"a": 3}, r.load("e:running"))
		require.Equal(t, map[string]float64{"a": 8}, r.load("e:waiting"))
		r.net.serve("a", text("e:running 0\ne:waiting 0\n"))
		r.after(time.Second)
		require.Equal(t, map[string]float64{"a": 0}, r.load("e:running + e:waiting"))
	})
}

func TestOptionalSeriesAreNotRequired(t *testing.T) {
	inBubble(t, setup{needed: []string{"e:waiting", "sum(e:errors) or vector(0)"}, optional: []string{"e:cache"}}, func(t *testing.T, r *rig) {
		r.net.serve("a", text("e:waiting 7\n"))
		r.group.Set([]Target{pod("a")})
		r.after(0)
		require.Equal(t, metricsource.Status{Target: "a", Answered: time.Now(), Tried: time.Now()}, r.status("a"))
	})
}
