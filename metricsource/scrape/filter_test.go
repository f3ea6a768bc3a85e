package scrape

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/metricsource"
	"github.com/inference-scaler/inference-scaler/metricsource/schedule"
)

// The group of these tests selects three metrics of an engine. One of them is optional.
var (
	filterSetup = setup{
		needed:   []string{`sum by (pod) (e:waiting) + sum by (pod) (e:running)`},
		optional: []string{`rate(e:done_total{code="200"}[1m])`},
	}
	filterBody  = "e:running 2\ne:waiting{model=\"m\"} 7\ne:other 1\ne:done_total{code=\"200\"} 3\ne:done_total{code=\"500\"} 4\n"
	filterQuery = "name%5B%5D=e%3Adone_total&name%5B%5D=e%3Arunning&name%5B%5D=e%3Awaiting"
)

// filterCases are servers with the requests that they get in the first four scrapes: for the
// full or for the filtered body. The result must always be the same.
var filterCases = map[string]struct {
	filtered http.HandlerFunc
	requests string
}{
	"supports the filter":       {python(filterBody), "full|filtered|filtered|filtered"},
	"ignores the query":         {text(filterBody), "full|filtered|filtered|filtered"},
	"empty":                     {text(""), "full|filtered full|full|full"},
	"empty OpenMetrics":         {typed(openMetrics, "# EOF\n"), "full|filtered full|full|full"},
	"empty OpenMetrics, no EOF": {typed(openMetrics, ""), "full|filtered full|full|full"},
	"rejects with 400":          {status(400), "full|filtered full|full|full"},
	"not found":                 {status(404), "full|filtered full|full|full"},
	"fails with 500":            {status(500), "full|filtered full|full|full"},
	"redirects":                 {with("Location", "/", status(301)), "full|filtered full|full|full"},
	"HTML page":                 {typed("text/html", "<html></html>"), "full|filtered full|full|full"},
	"drops a required name":     {text("e:running 2\ne:done_total{code=\"200\"} 3\n"), "full|filtered full|full|full"},
	"drops an optional name":    {text("e:running 2\ne:waiting 7\n"), "full|filtered full|full|full"},
	"drops a selected series":   {text("e:running 2\ne:waiting 7\ne:done_total{code=\"500\"} 4\n"), "full|filtered full|full|full"},
}

// requests returns the requests to a host, in the notation of filterCases.
func (r *rig) requests(name string) string {
	var all strings.Builder
	var last time.Time
	for i, h := range r.net.look(name).hits {
		if i > 0 {
			all.WriteString(map[bool]string{true: " ", false: "|"}[h.at.Equal(last)])
		}
		last = h.at
		all.WriteString(map[bool]string{true: "filtered", false: "full"}[strings.Contains(h.query, "name%5B%5D=")])
	}
	return all.String()
}

func TestFilterIsUsedIfTheTargetSupportsIt(t *testing.T) {
	for name, c := range filterCases {
		t.Run(name, func(t *testing.T) {
			inBubble(t, filterSetup, func(t *testing.T, r *rig) {
				r.net.serve("a", onFilter(c.filtered, text(filterBody)))
				r.after(0)
				r.group.Set([]Target{pod("a")})
				r.after(0)
				for range 3 {
					require.NoError(t, r.status("a").Err)
					require.Equal(t, map[string]float64{"a": 9}, r.load("sum by (pod) (e:running) + sum by (pod) (e:waiting)"))
					require.Equal(t, map[string]float64{"a": 3}, r.load("e:done_total"))
					r.after(time.Second)
				}
				r.after(tick)
				require.True(t, strings.HasPrefix(r.requests("a"), c.requests), "%s", r.requests("a"))
				require.Zero(t, r.counted("ok")-int(r.reads.Load()), "two requests are one scrape")

				r.after(time.Minute)
				last := c.requests[strings.LastIndex(c.requests, "|")+1:]
				require.True(t, strings.HasSuffix(r.requests("a"), strings.Repeat("|"+last, 55)), "permanently")

				again := pod("a")
				again.UID = "another"
				before := len(r.net.look("a").hits)
				r.group.Set([]Target{again})
				r.after(0)
				require.NotContains(t, r.net.look("a").hits[before].query, "name", "a new target starts with a full request")
			})
		})
	}
}

func TestFilterContainsTheSelectedNames(t *testing.T) {
	for query, want := range map[string]string{
		"":                   filterQuery,
		"x=1&y=%2F;&x=a+b":   "x=1&y=%2F;&x=a+b&" + filterQuery,
		"name%5B%5D=e%3Arun": "name%5B%5D=e%3Arun&" + filterQuery,
	} {
		inBubble(t, filterSetup, func(t *testing.T, r *rig) {
			r.net.serve("a", text(filterBody))
			p := pod("a")
			p.URL = "http://a:80/a%2Fb/metrics?" + query
			r.group.Set([]Target{p})
			r.after(time.Second + tick)
			require.Equal(t, []string{query, want}, r.net.queries("a")[:2])
			require.Equal(t, "/a/b/metrics", r.net.look("a").hits[1].path)
		})
	}
}

func TestFilterIsNotUsedIfItCannotExpressTheSelection(t *testing.T) {
	long := make([]string, maxFilterNames+1)
	for i := range long {
		long[i] = fmt.Sprintf("e_%d", i)
	}
	for name, c := range map[string]struct {
		queries []string
		filter  bool
	}{
		"a list of names":      {[]string{`{__name__=~"e_1|e_2"}`}, true},
		"a pattern":            {[]string{`{__name__=~"e_.*"}`}, false},
		"a name and a pattern": {[]string{"e_1", `{__name__=~"e_.+"}`}, false},
		"anything but a name":  {[]string{`{__name__!="e_2",a="b"}`}, false},
		"any name":             {[]string{`{a="b"}`}, false},
		"as many as fit":       {[]string{strings.Join(long[:maxFilterNames], " or ")}, true},
		"too many names":       {[]string{strings.Join(long, " or ")}, false},
		"too long a query":     {[]string{strings.Repeat("e", maxFilterLength), "e_1 or " + strings.Repeat("f", maxFilterLength-10)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, setup{needed: c.queries[:1], optional: c.queries[1:]}, func(t *testing.T, r *rig) {
				r.net.serve("a", text("e_1{a=\"b\"} 1\n"+strings.Repeat("e", maxFilterLength)+" 1\n"))
				r.group.Set([]Target{pod("a")})
				r.after(5 * time.Second)
				require.NoError(t, r.status("a").Err)
				require.Equal(t, c.filter, strings.Contains(r.requests("a"), "filtered"))
			})
		})
	}
}

func TestMissingNameDoesNotDisableTheFilter(t *testing.T) {
	inBubble(t, filterSetup, func(t *testing.T, r *rig) {
		r.net.serve("a", python(filterBody))
		r.group.Set([]Target{pod("a")})
		r.after(2*time.Second + tick)
		before := len(r.requests("a"))
		r.net.serve("a", python("e:running 2\ne:waiting 7\n"))
		r.after(4 * time.Second)
		require.Equal(t, "|filtered full|filtered|filtered|filtered", r.requests("a")[before:])
		require.Empty(t, r.load("e:done_total"))

		before = len(r.requests("a"))
		r.net.serve("a", python(filterBody))
		r.after(2 * time.Second)
		require.Equal(t, "|filtered|filtered", r.requests("a")[before:])
		require.Equal(t, map[string]float64{"a": 3}, r.load("e:done_total"), "it is exported again")

		before = len(r.requests("a"))
		r.net.serve("a", onFilter(text("e:running 2\ne:waiting 7\n"), text(filterBody)))
		r.after(2 * time.Second)
		require.Equal(t, "|filtered full|full", r.requests("a")[before:], "the name is expected again")
	})
}

// A target without a required series is faulty once its full body lacks the series too. It
// must recover without a restart, and use the filter again.
func TestMissingRequiredName(t *testing.T) {
	inBubble(t, filterSetup, func(t *testing.T, r *rig) {
		r.net.serve("a", python(filterBody))
		r.group.Set([]Target{pod("a")})
		r.after(2*time.Second + tick)
		r.net.serve("a", python("e:other 1\n"))
		r.after(5 * time.Second)
		var none *metricsource.NoSeriesError
		require.ErrorAs(t, r.status("a").Err, &none)
		require.Equal(t, map[string]float64{"a": 7}, r.load("e:waiting"))
		r.net.serve("a", python(filterBody))
		before := len(r.requests("a"))
		r.after(2 * time.Second)
		require.NoError(t, r.status("a").Err)
		require.True(t, strings.HasSuffix(r.requests("a")[before:], "|filtered"))
	})
}

func TestFilterAfterAnOutage(t *testing.T) {
	inBubble(t, filterSetup, func(t *testing.T, r *rig) {
		r.net.serve("a", python(filterBody))
		r.group.Set([]Target{pod("a")})
		r.after(2*time.Second + tick)
		r.net.serve("a", status(503))
		r.after(30 * time.Second)
		r.net.serve("a", python(filterBody))
		r.after(schedule.MaxBackOff + tick)
		before := len(r.requests("a"))
		r.after(2 * time.Second)
		require.Equal(t, "|filtered|filtered", r.requests("a")[before:], "an outage does not disable the filter")
	})
}

func FuzzNameFilter(f *testing.F) {
	f.Add("e:waiting", "e_total")
	f.Add("a b&c=d#%", "\xff")
	f.Fuzz(func(t *testing.T, a, b string) {
		defer time.AfterFunc(20*time.Second, func() { panic("hangs") }).Stop()
		filter := nameFilter([]string{a, b})
		if filter == "" {
			require.Greater(t, 3*(len(a)+len(b))+30, maxFilterLength)
			return
		}
		back, err := url.ParseQuery(filter)
		require.NoError(t, err)
		require.Equal(t, url.Values{"name[]": {a, b}}, back)
		require.NotContains(t, filter, "#")
	})
}

// A server that hangs or closes the connection because of the filter is scraped without it.
func TestServerFailsBecauseOfTheFilter(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"closes": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"hangs":  func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, setup{}, func(t *testing.T, r *rig) {
				r.net.serve("pod-0000", onFilter(answer, text("q 7\n")))
				r.group.Set(pods(1))
				for range 30 {
					r.after(2 * time.Second)
					require.Less(t, time.Since(r.status("pod-0000").Answered), 4*time.Second)
				}
			})
		})
	}
}
