package scrape

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/metricsource/schedule"
)

// An answer that is cut at any of its bytes, as by a server that dies, is never a lower
// load: it is refused, or what there is to add up is all there.
func TestAnswerCutAtEveryByte(t *testing.T) {
	const body = "# TYPE r gauge\nr{a=\"}\"} 3\nr{b=\"1\"} 4\n# HELP q how many\nq{model=\"a\",b=\"x\"} 125.75\n"
	chunked := ""
	for chunk := range strings.Lines(body) {
		chunked += fmt.Sprintf("%x\r\n%s\r\n", len(chunk), chunk)
	}
	for name, answer := range map[string]string{
		"of a length":          fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body),
		"in chunks":            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked + "0\r\n\r\n",
		"ended by its end":     "HTTP/1.0 200 OK\r\n\r\n" + body,
		"OpenMetrics":          "HTTP/1.0 200 OK\r\nContent-Type: " + openMetrics + "\r\n\r\n" + body + "# EOF\n",
		"OpenMetrics, unended": "HTTP/1.0 200 OK\r\nContent-Type: " + openMetrics + "\r\n\r\n" + body + "# EOF",
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, setup{}, func(t *testing.T, r *rig) {
				r.group.Set([]Target{pod("a")})
				for cut := len(answer); cut >= 0; cut-- {
					r.net.at("a", func(h *host) { h.accept = says(answer[:cut]) })
					if p := r.reader("a"); p.target.transport != nil {
						p.target.transport.CloseIdleConnections()
					}
					r.after(time.Second + schedule.MaxBackOff)
					require.Equal(t, map[string]float64{"a": 125.75}, r.load("sum by (pod) (q)"), "%d of %d bytes", cut, len(answer))
				}
				require.Error(t, r.status("a").Err, "of nothing")
			})
		})
	}
}
