package reporter

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/inference-scaler/inference-scaler/metricsource"
	"github.com/inference-scaler/inference-scaler/metricsource/push"
)

// scaler is the real receiving end, with a window that takes what is reported.
type scaler struct {
	t       *testing.T
	address string
	tokens  *push.Tokens
	store   *push.Store
	server  *grpc.Server
	window  *metricsource.Window
}

const token = "a-token-of-the-api-server"

func newScaler(t *testing.T) *scaler {
	path := filepath.Join(t.TempDir(), "tokens")
	require.NoError(t, os.WriteFile(path, []byte(token+" asr\n"), 0o600))
	tokens, err := push.ReadTokens(path, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	s := &scaler{t: t, address: "127.0.0.1:0", tokens: tokens, store: push.NewStore(push.Options{}), window: metricsource.NewWindow(0)}
	query, err := metricsource.ParseQuery(`{__name__=~"demand_queued_requests|demand_inflight_requests|demand_requests_total"}`)
	require.NoError(t, err)
	group := s.store.Open(push.Config{
		Namespace: "asr", Workload: "lightning-asr", Window: s.window, OnReport: func() {},
		Selection: metricsource.NewSelection(metricsource.Idle{}, []*metricsource.Query{query}, nil),
	})
	t.Cleanup(group.Close)
	s.start()
	t.Cleanup(func() { s.server.Stop() })
	return s
}

func (s *scaler) start() {
	listener, err := net.Listen("tcp", s.address)
	require.NoError(s.t, err)
	s.address = listener.Addr().String()
	s.server = grpc.NewServer()
	push.NewServer(s.store, s.tokens).Register(s.server)
	go func(server *grpc.Server) { _ = server.Serve(listener) }(s.server)
}

// receives waits until the scaler has these counts; nil for none.
func (s *scaler) receives(want map[string]float64) {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		got := map[string]float64{}
		for _, name := range []string{"demand_queued_requests", "demand_inflight_requests", "demand_requests_total"} {
			query, err := metricsource.ParseQuery("sum(" + name + ")")
			require.NoError(s.t, err)
			result, err := query.Eval(s.t.Context(), s.window, time.Now())
			require.NoError(s.t, err)
			for _, e := range result.Elements {
				got[name] = e.Value
			}
		}
		return len(got) == len(want) && got["demand_queued_requests"] == want["demand_queued_requests"] &&
			got["demand_inflight_requests"] == want["demand_inflight_requests"] && got["demand_requests_total"] == want["demand_requests_total"]
	}, 20*time.Second, 2*time.Millisecond)
}

func counts(queued, inFlight, arrived float64) map[string]float64 {
	return map[string]float64{"demand_queued_requests": queued, "demand_inflight_requests": inFlight, "demand_requests_total": arrived}
}

// run reports until the function that is returned is called.
func run(t *testing.T, s *scaler, tokenToShow string) (r *Reporter, stop func()) {
	r, err := New(Options{
		Address: s.address, Credentials: insecure.NewCredentials(), Token: tokenToShow,
		Namespace: "asr", Workload: "lightning-asr", Instance: "api-0",
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { require.NoError(t, r.Run(ctx)) })
	stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	t.Cleanup(stop)
	return r, stop
}

func TestReporterTellsWhatWaitsAndWhatIsInFlight(t *testing.T) {
	s := newScaler(t)
	r, stop := run(t, s, token)
	s.receives(counts(0, 0, 0))

	waiting, free := make(chan struct{}), make(chan struct{})
	api := httptest.NewServer(r.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		handed := r.Wait()
		<-waiting
		handed()
		handed() // once is enough, and twice no harm
		<-free
	})))
	defer api.Close()
	var requests sync.WaitGroup
	for range 3 {
		requests.Go(func() {
			resp, err := http.Get(api.URL)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
		})
	}
	s.receives(counts(3, 3, 3))
	close(waiting)
	s.receives(counts(0, 3, 3))
	close(free)
	requests.Wait()
	s.receives(counts(0, 0, 3))

	_, err := r.UnaryServerInterceptor()(t.Context(), nil, nil, func(context.Context, any) (any, error) {
		s.receives(counts(0, 1, 4))
		return nil, nil
	})
	require.NoError(t, err)
	require.NoError(t, r.StreamServerInterceptor()(nil, nil, nil, func(any, grpc.ServerStream) error {
		s.receives(counts(0, 1, 5))
		return nil
	}))
	s.receives(counts(0, 0, 5))
	stop()
	s.receives(nil)
}

func TestReporterComesBack(t *testing.T) {
	s := newScaler(t)
	r, _ := run(t, s, token)
	s.receives(counts(0, 0, 0))
	s.server.Stop()
	r.Begin()
	s.start()
	s.receives(counts(0, 1, 1))
}

func TestReporterWithAWrongTokenGoesOnAndEnds(t *testing.T) {
	s := newScaler(t)
	r, stop := run(t, s, "no such token as that")
	r.Begin()
	stop()
	s.receives(nil)
}

func TestNewSaysWhatIsMissing(t *testing.T) {
	_, err := New(Options{Address: "x:1", Namespace: "asr", Workload: "w", Instance: "i"})
	require.ErrorContains(t, err, "Credentials are missing")
	_, err = New(Options{Address: "x:1", Namespace: "asr", Instance: "i", Credentials: insecure.NewCredentials()})
	require.ErrorContains(t, err, "Workload is missing")
}
