package scrape

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
	"weak"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/metricsource"
	"github.com/inference-scaler/inference-scaler/metricsource/exposition"
	"github.com/inference-scaler/inference-scaler/metricsource/schedule"
)

const openMetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8"

// padded returns a body of exactly this many bytes: a selected sample and a long comment.
func padded(size int) string { return "q 8\n" + strings.Repeat("#", size-5) + "\n" }

func with(header, value string, handler http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set(header, value)
		handler(w, req)
	}
}

// bad are responses that must be rejected, with the expected error and its class.
var bad = map[string]struct {
	serve  http.HandlerFunc
	accept func(context.Context, net.Conn) error
	err    string
	reason string
}{
	"404":                   {serve: status(404), err: "HTTP status 404", reason: "status"},
	"500 with a body":       {serve: func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "q 8", http.StatusInternalServerError) }, err: "HTTP status 500", reason: "status"},
	"204":                   {serve: status(204), err: "HTTP status 204", reason: "status"},
	"redirect":              {serve: with("Location", "http://other:80/metrics", status(302)), err: "HTTP status 302: redirects are not followed", reason: "status"},
	"gzip":                  {serve: with("Content-Encoding", "gzip", text("q 8\n")), err: errEncoded.Error(), reason: "syntax"},
	"truncated OpenMetrics": {serve: typed(openMetrics, "q 8\n"), err: errIncomplete.Error(), reason: "syntax"},
	"not a number":          {serve: text("r 1\nq eight\n"), err: "line 2: expected a number after the series", reason: "syntax"},
	"truncated line":        {serve: text("q{a=\"1\n"), err: "unterminated label block", reason: "syntax"},
	"bad label":             {serve: text("q{a=1} 8\n"), err: "expected a quoted label value", reason: "syntax"},
	"good, then bad sample": {serve: text("q 8\nq{a=\"1\"} x\n"), err: "line 2", reason: "syntax"},
	"no listener":           {accept: refuse, err: "connection refused", reason: "connection"},
	"not HTTP":              {accept: sends("q 8\n"), err: "malformed HTTP"},
	"closed":                {accept: sends(""), err: "EOF"},
	"closed in the body":    {accept: sends("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nq 8\n"), err: "unexpected EOF"},
	"closed between chunks": {accept: sends("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nq 8\n\r\n"), err: "unexpected EOF"},
	"endless headers":       {accept: sends("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20)), err: "exceeded"},
}

func TestBadResponseKeepsTheLastSamples(t *testing.T) {
	for name, c := range bad {
		t.Run(name, func(t *testing.T) {
			inBubble(t, setup{needed: []string{"q", "max_over_time(q[1m])"}}, func(t *testing.T, r *rig) {
				r.net.serve("a", text("q 7\nq{b=\"1\"} 1\n"))
				r.group.Set([]Target{pod("a")})
				r.after(0)
				answered := r.status("a").Answered
				if c.serve != nil {
					r.net.serve("a", c.serve)
				} else {
					r.net.at("a", func(h *host) { h.accept = c.accept })
					r.reader("a").target.transport.CloseIdleConnections()
				}
				r.after(time.Second + tick)
				s := r.status("a")
				require.ErrorContains(t, s.Err, c.err)
				require.Equal(t, answered, s.Answered)
				require.Greater(t, s.Tried, answered)
				require.Equal(t, map[string]float64{"a": 8}, r.load("sum by (pod) (q)"))
				require.Equal(t, map[string]float64{"a": 0}, r.load("up"))
				require.Empty(t, r.net.look("other").hits)
				if c.reason != "" {
					require.NotZero(t, r.counted(c.reason))
				}
				r.after(10 * time.Second)
				require.Equal(t, 1, strings.Count(r.log.String(), "\n"), "logged once: %s", &r.log)
				require.Contains(t, r.log.String(), `level=WARN msg="target failed" target=a`)

				r.net.serve("a", text("q 9\n"))
				r.after(schedule.MaxBackOff + tick)
				require.Equal(t, map[string]float64{"a": 9}, r.load("q"))
				require.Contains(t, r.log.String(), `level=INFO msg="target recovered" target=a`)
			})
		})
	}
}

func TestErrorClasses(t *testing.T) {
	var status *StatusError
	require.ErrorAs(t, fmt.Errorf("reading: %w", &StatusError{Code: 301, Redirect: true}), &status)
	for err, want := range map[error]string{
		nil: "ok", errTimeout: "timeout", context.DeadlineExceeded: "timeout", context.Canceled: "other",
		&metricsource.NoSeriesError{}: "no_series", &exposition.SyntaxError{}: "syntax", errIncomplete: "syntax",
		errEncoded: "syntax", &StatusError{}: "status", errTooLarge: "too_large",
		metricsource.ErrTooManySeries: "too_large", &net.OpError{Op: "dial"}: "connection",
	} {
		require.Equal(t, want, reason(err), err)
		if err != nil {
			require.Equal(t, want, reason(fmt.Errorf("wrapped: %w", err)))
		}
	}
}

func TestGoodResponses(t *testing.T) {
	for name, serve := range map[string]http.HandlerFunc{
		"text":                      text("q 7\n"),
		"no content type":           typed("", "q 7\n"),
		"invalid content type":      typed(";;", "q 7\n"),
		"binary content type":       typed("application/octet-stream", "q 7\n"),
		"OpenMetrics":               typed(openMetrics, "# TYPE q gauge\nq 7\n# EOF\n"),
		"OpenMetrics in capitals":   typed("APPLICATION/OPENMETRICS-TEXT", "q 7\n# EOF"),
		"identity":                  with("Content-Encoding", "identity", text("q 7\n")),
		"other lines are malformed": text("r one two three\n}{\nq_total\nq 7\n\xff\xfe\n"),
		"duplicate series":          text("q 3\nq 7\n"),
		"no newline at the end":     text("q 7"),
		"CRLF":                      text("q 7\r\n"),
		"timestamp":                 text("q 7 1395066363000\n"),
		"exactly 16 MiB":            text(strings.Replace(padded(maxBody), "q 8", "q 7", 1)),
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, setup{}, func(t *testing.T, r *rig) {
				r.net.serve("a", serve)
				r.group.Set([]Target{pod("a")})
				r.after(0)
				require.NoError(t, r.status("a").Err)
				require.Equal(t, map[string]float64{"a": 7}, r.load("q"))
				require.Equal(t, map[string]float64{"a": 1}, r.load("up"))
			})
		})
	}
}

func TestHugeBodyIsNotReadCompletely(t *testing.T) {
	const chunk = 64 << 10
	for name, size := range map[string]int{
		"declared": 100 << 20, "undeclared, one byte over": maxBody + 1,
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, setup{}, func(t *testing.T, r *rig) {
				taken := 0
				r.net.serve("a", func(w http.ResponseWriter, _ *http.Request) {
					if name == "declared" {
						w.Header().Set("Content-Length", strconv.Itoa(size))
					}
					for line := []byte(strings.Repeat("#", chunk)); taken < size; taken += chunk {
						if _, err := w.Write(line[:min(chunk, size-taken)]); err != nil {
							return
						}
					}
				})
				r.group.Set([]Target{pod("a")})
				r.after(0)
				require.ErrorIs(t, r.status("a").Err, errTooLarge)
				require.Equal(t, 1, r.counted("too_large"))
				require.LessOrEqual(t, taken, maxBody+8*chunk)
			})
		})
	}
}

// No reference to a body remains after a scrape. Otherwise, each target would hold one.
func TestBodyIsNotRetained(t *testing.T) {
	for name, tail := range map[string]string{"good": "", "rejected": "q x\n"} {
		t.Run(name, func(t *testing.T) {
			g := New(Options{}).Open(config(t, setup{}))
			defer g.Close()
			p := newTarget(g, pod("a"), 0)
			defer p.samples.Remove()
			require.NoError(t, p.reader.prepare())
			body := []byte(padded(2<<20) + tail)
			retained := weak.Make(&body[0])
			_, err := p.reader.parse(body, "")
			require.Equal(t, tail == "", err == nil)
			runtime.GC()
			require.Nil(t, retained.Value())
			runtime.KeepAlive(p)
		})
	}
}
