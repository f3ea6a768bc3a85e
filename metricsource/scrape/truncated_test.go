package scrape

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/metricsource/schedule"
)

// A response truncated at any byte is rejected, or contains the correct value. A body that
// ends with the connection protects only the value of each series, not the number of series.
func TestResponseTruncatedAtEveryByte(t *testing.T) {
	const body = "# TYPE r gauge\nr{a=\"}\"} 3\nr{b=\"1\"} 4\n# HELP q how many\nq{model=\"a\",b=\"x\"} 125.75\n"
	var chunked strings.Builder
	for chunk := range strings.Lines(body) {
		fmt.Fprintf(&chunked, "%x\r\n%s\r\n", len(chunk), chunk)
	}
	for name, answer := range map[string]string{
		"with a length":       fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body),
		"chunked":             "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked.String() + "0\r\n\r\n",
		"until close":         "HTTP/1.0 200 OK\r\n\r\n" + body,
		"OpenMetrics":         "HTTP/1.0 200 OK\r\nContent-Type: " + openMetrics + "\r\n\r\n" + body + "# EOF\n",
		"OpenMetrics, no EOL": "HTTP/1.0 200 OK\r\nContent-Type: " + openMetrics + "\r\n\r\n" + body + "# EOF",
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, setup{}, func(t *testing.T, r *rig) {
				r.group.Set([]Target{pod("a")})
				for cut := len(answer); cut >= 0; cut-- {
					r.net.at("a", func(h *host) { h.accept = sends(answer[:cut]) })
					if p := r.reader("a"); p.target.transport != nil {
						p.target.transport.CloseIdleConnections()
					}
					r.after(time.Second + schedule.MaxBackOff)
					require.Equal(t, map[string]float64{"a": 125.75}, r.load("sum by (pod) (q)"), "%d of %d bytes", cut, len(answer))
				}
				require.Error(t, r.status("a").Err, "empty response")
			})
		})
	}
}

// Timestamps in the body are ignored, because the clock of the target can be wrong. A
// sample has the time of its scrape.
func TestTimestampsAreIgnored(t *testing.T) {
	inBubble(t, setup{needed: []string{"sum(q)", "sum(max_over_time(q[1m]))"}, lookback: time.Minute}, func(t *testing.T, r *rig) {
		for _, stamp := range []string{"", " 0", " -1", " 1395066363000", " 4102444800000", " 9223372036854775807"} {
			r.net.serve("a", text("q 8"+stamp+"\n"))
			r.group.Set([]Target{pod("a")})
			r.after(time.Second + tick)
			require.Equal(t, map[string]float64{"a": 8}, r.load("q"), stamp)
			r.net.serve("a", text("q 3"+stamp+"\n"))
			r.after(time.Second + tick)
			require.Equal(t, map[string]float64{"a": 3}, r.load("q"), stamp)
			require.Equal(t, map[string]float64{"a": 8}, r.load("max_over_time(q[1m])"), stamp)
			r.after(2 * time.Minute)
			require.Equal(t, map[string]float64{"a": 3}, r.load("max_over_time(q[1m])"), stamp)
		}
	})
}
