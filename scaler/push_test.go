package scaler

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/metricsource/push"
)

// apiReporter posts reports of one API server as a client would.
type apiReporter struct {
	t        *testing.T
	handler  http.Handler
	sequence int
}

func (w *world) reporter() *apiReporter {
	const token = "a-token-of-the-api-server"
	path := filepath.Join(w.t.TempDir(), "tokens")
	require.NoError(w.t, os.WriteFile(path, []byte(token+" asr\n"), 0o600))
	tokens, err := push.ReadTokens(path, slog.New(slog.DiscardHandler))
	require.NoError(w.t, err)
	server := push.NewServer(w.reports, tokens)
	return &apiReporter{t: w.t, handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		r.Header.Set("Authorization", "Bearer "+token)
		server.ServeHTTP(rw, r)
	})}
}

func (r *apiReporter) report(queued int) {
	r.sequence++
	body := fmt.Sprintf(`{"namespace":"asr","workload":"lightning-asr","instance":"api-0","sequence":%d,"timeToLive":"10s",
		"samples":[{"name":"demand_queued_requests","value":%d}]}`, r.sequence, queued)
	reply := httptest.NewRecorder()
	r.handler.ServeHTTP(reply, httptest.NewRequest(http.MethodPost, "/v1/demand", strings.NewReader(body)))
	require.Equal(r.t, http.StatusOK, reply.Code, reply.Body)
}

func TestAReportWakesAtOnce(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		w.asleep(onPods)
		stream := w.streamIsActive(onPods)
		api := w.reporter()
		w.pass(time.Second)
		api.report(0)
		w.pass(time.Second)
		require.Empty(t, stream.times())
		api.report(11)
		w.pass(time.Millisecond)
		require.Len(t, stream.times(), 1, "on the edge, without a reading")
		require.Equal(t, 11.0, w.value(onPods))

		w.network.add("10.0.0.1:9090", asr(0))
		w.cluster.update(func(wl *cluster.Workload) {
			wl.Replicas, wl.Pods = 1, []cluster.Pod{pod("a", "10.0.0.1", true)}
		})
		w.pass(2 * time.Second)
		require.Equal(t, 11.0, w.value(onPods))
		w.pass(10 * time.Second)
		require.Zero(t, w.value(onPods), "its time to live is over")
		require.False(t, w.active(onPods))
	})
}

func TestReportsAreForTheirWorkloadAlone(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		w.asleep(onPods)
		w.cluster.update(func(wl *cluster.Workload) { wl.Name = "another" })
		w.reporter().report(11)
		w.pass(time.Second)
		require.False(t, w.active(onPods))
		w.cluster.update(func(wl *cluster.Workload) { wl.Name = "lightning-asr" })
		w.pass(time.Second)
		require.True(t, w.active(onPods), "what stands is for whoever comes")
	})
}
