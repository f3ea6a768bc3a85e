package push

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/inference-scaler/inference-scaler/metricsource"
	demandv1 "github.com/inference-scaler/inference-scaler/proto/demand/v1"
)

const asrToken, peerToken = "a-token-for-the-namespace-asr", "a-token-for-all-of-them"

func tokens(t testing.TB) *Tokens {
	path := filepath.Join(t.TempDir(), "tokens")
	require.NoError(t, os.WriteFile(path, []byte("# who may report\n"+asrToken+" asr\n"+peerToken+" *\n"), 0o600))
	tokens, err := ReadTokens(path, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return tokens
}

// queued is a report of so many queued requests.
func queued(sequence uint64, n float64) *demandv1.ReportRequest {
	return &demandv1.ReportRequest{
		Namespace: "asr", Workload: "lightning-asr", Instance: "api-0",
		Sequence: sequence, TimeToLive: durationpb.New(10 * time.Second),
		Samples: []*demandv1.Sample{{Name: "demand_queued_requests", Value: n}},
	}
}

// watcher is a group with its window.
type watcher struct {
	*Group
	window  *metricsource.Window
	query   *metricsource.Query
	mu      sync.Mutex
	changed int
}

func watch(t *testing.T, s *Store) *watcher {
	query, err := metricsource.ParseQuery("sum by (instance) (demand_queued_requests)")
	require.NoError(t, err)
	w := &watcher{window: metricsource.NewWindow(0), query: query}
	w.Group = s.Open(Config{
		Namespace: "asr", Workload: "lightning-asr", Window: w.window,
		Selection: metricsource.NewSelection(metricsource.Idle{}, []*metricsource.Query{query}, nil),
		OnReport:  func() { w.mu.Lock(); defer w.mu.Unlock(); w.changed++ },
	})
	return w
}

// demand returns what the window of the group holds, by instance.
func (w *watcher) demand(t *testing.T) map[string]float64 {
	result, err := w.query.Eval(t.Context(), w.window, time.Now())
	require.NoError(t, err)
	all := map[string]float64{}
	for _, e := range result.Elements {
		all[e.Instance] = e.Value
	}
	return all
}

func (w *watcher) changes() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

var asr = []string{"asr"}

func TestReportsThatChangeNothing(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*demandv1.ReportRequest)
		want   demandv1.Outcome
		says   string
	}{
		"replayed":               {func(r *demandv1.ReportRequest) { r.Sequence = 7 }, demandv1.Outcome_OUTCOME_STALE, "newer report"},
		"reordered":              {func(r *demandv1.ReportRequest) { r.Sequence = 3 }, demandv1.Outcome_OUTCOME_STALE, "newer report"},
		"no sequence":            {func(r *demandv1.ReportRequest) { r.Sequence = 0 }, demandv1.Outcome_OUTCOME_INVALID, "sequence: 0; wanted"},
		"another namespace":      {func(r *demandv1.ReportRequest) { r.Namespace = "llm" }, demandv1.Outcome_OUTCOME_FORBIDDEN, `namespace "llm"`},
		"no namespace":           {func(r *demandv1.ReportRequest) { r.Namespace = "" }, demandv1.Outcome_OUTCOME_FORBIDDEN, `namespace ""`},
		"no workload":            {func(r *demandv1.ReportRequest) { r.Workload = "" }, demandv1.Outcome_OUTCOME_INVALID, `workload: ""; wanted`},
		"no instance":            {func(r *demandv1.ReportRequest) { r.Instance = "" }, demandv1.Outcome_OUTCOME_INVALID, `instance: ""; wanted`},
		"a name that never ends": {func(r *demandv1.ReportRequest) { r.Instance = strings.Repeat("x", 1000) }, demandv1.Outcome_OUTCOME_INVALID, "instance"},
		"NaN":                    {value(math.NaN()), demandv1.Outcome_OUTCOME_INVALID, "demand_queued_requests: NaN; wanted: a number from 0 to 1e+15"},
		"negative":               {value(-1), demandv1.Outcome_OUTCOME_INVALID, "-1; wanted"},
		"infinite":               {value(math.Inf(1)), demandv1.Outcome_OUTCOME_INVALID, "+Inf; wanted"},
		"10^300":                 {value(1e300), demandv1.Outcome_OUTCOME_INVALID, "1e+300; wanted"},
		"no metric":              {func(r *demandv1.ReportRequest) { r.Samples[0].Name = "a b" }, demandv1.Outcome_OUTCOME_INVALID, `sample "a b": wanted`},
		"our own metric":         {func(r *demandv1.ReportRequest) { r.Samples[0].Name = "up" }, demandv1.Outcome_OUTCOME_INVALID, `sample "up": wanted`},
		"a label of ours":        {func(r *demandv1.ReportRequest) { r.Samples[0].Labels = map[string]string{"__name__": "x"} }, demandv1.Outcome_OUTCOME_INVALID, `label "__name__"`},
		"for ever":               {func(r *demandv1.ReportRequest) { r.TimeToLive = durationpb.New(time.Hour) }, demandv1.Outcome_OUTCOME_INVALID, "timeToLive: 1h0m0s; wanted: from 1s to 10m0s"},
		"gone before":            {func(r *demandv1.ReportRequest) { r.TimeToLive = durationpb.New(-time.Second) }, demandv1.Outcome_OUTCOME_INVALID, "timeToLive: -1s; wanted"},
		"oversized":              {func(r *demandv1.ReportRequest) { r.Samples = make([]*demandv1.Sample, MaxSamples+1) }, demandv1.Outcome_OUTCOME_EXHAUSTED, "257 samples; at most 256"},
	} {
		t.Run(name, func(t *testing.T) {
			s := NewStore(Options{})
			w := watch(t, s)
			require.NoError(t, s.accept(queued(7, 5), asr, fromReporter))
			require.Equal(t, 1, w.changes())
			r := queued(8, 99)
			tc.change(r)
			a := response(r, s.accept(r, asr, fromReporter))
			require.Equal(t, tc.want, a.GetOutcome())
			require.Equal(t, r.GetSequence(), a.GetSequence())
			require.Contains(t, a.GetError(), tc.says)
			require.Equal(t, map[string]float64{"api-0": 5}, w.demand(t))
			require.Equal(t, 1, w.changes())
		})
	}
}

func value(v float64) func(*demandv1.ReportRequest) {
	return func(r *demandv1.ReportRequest) { r.Samples[0].Value = v }
}

func TestReportsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewStore(Options{})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { require.NoError(t, s.Run(ctx)) })
		defer running.Wait()
		defer cancel()
		require.NoError(t, s.accept(queued(1, 5), asr, fromReporter))
		w := watch(t, s)
		require.Equal(t, map[string]float64{"api-0": 5}, w.demand(t), "a report from before the group was opened")

		time.Sleep(8 * time.Second)
		require.NoError(t, s.accept(queued(2, 5), asr, fromReporter))
		require.Equal(t, 1, w.changes(), "a heartbeat changes nothing")
		time.Sleep(8 * time.Second)
		require.Equal(t, map[string]float64{"api-0": 5}, w.demand(t))
		time.Sleep(3 * time.Second)
		require.Empty(t, w.demand(t), "killed: its queue has died with it")
		require.Empty(t, w.Status())
		require.Equal(t, 2, w.changes())
		require.ErrorIs(t, s.accept(queued(2, 5), asr, fromReporter), errSuperseded, "a report that expired does not return")

		require.NoError(t, s.accept(queued(3, 4), asr, fromReporter))
		require.Equal(t, map[string]float64{"api-0": 4}, w.demand(t))
		goodbye := queued(4, 4)
		goodbye.TimeToLive = nil
		require.NoError(t, s.accept(goodbye, asr, fromReporter))
		require.Empty(t, w.demand(t))
		time.Sleep(rememberFor + time.Second)
		s.mu.Lock()
		defer s.mu.Unlock()
		require.Zero(t, s.count)
		require.Empty(t, s.reporters)
	})
}

func TestReportersAreBounded(t *testing.T) {
	s := NewStore(Options{})
	for i := range maxPerWorkload {
		r := queued(1, 1)
		r.Instance = strconv.Itoa(i)
		require.NoError(t, s.accept(r, asr, fromReporter))
	}
	require.ErrorIs(t, s.accept(queued(1, 1), asr, fromReporter), errExhausted)
	r := queued(2, 1)
	r.Instance = "0"
	require.NoError(t, s.accept(r, asr, fromReporter), "those that are known go on")
}

func TestOneNamespaceKeepsNoOtherOut(t *testing.T) {
	s := NewStore(Options{})
	for i := range maxPerNamespace {
		r := queued(1, 1)
		r.Workload, r.Instance = strconv.Itoa(i/1000), strconv.Itoa(i)
		require.NoError(t, s.accept(r, asr, fromReporter))
	}
	r := queued(1, 1)
	r.Workload = "another"
	require.ErrorIs(t, s.accept(r, asr, fromReporter), errExhausted)
	r.Namespace = "llm"
	require.NoError(t, s.accept(r, []string{"llm"}, fromReporter))

	large := queued(2, 1)
	large.Workload, large.Instance, large.Samples = "0", "0", nil
	for i := range MaxSamples {
		labels := map[string]string{"i": strconv.Itoa(i), "text": strings.Repeat("x", maxLabelValue)}
		large.Samples = append(large.Samples, &demandv1.Sample{Name: "demand_queued_requests", Labels: labels})
	}
	require.ErrorContains(t, s.accept(large, asr, fromReporter), "bytes; at most 262144")
	require.NoError(t, s.accept(func() *demandv1.ReportRequest { r := queued(2, 5); r.Workload, r.Instance = "0", "0"; return r }(), asr, fromReporter))
}

func TestAReporterWithoutTheWantedSeriesIsAFault(t *testing.T) {
	s := NewStore(Options{})
	w := watch(t, s)
	r := queued(1, 1)
	r.Samples[0].Name = "something_else"
	require.NoError(t, s.accept(r, asr, fromReporter))
	require.ErrorContains(t, w.Status()[0].Err, "exports no")
	require.NoError(t, s.accept(queued(2, 1), asr, fromReporter))
	require.NoError(t, w.Status()[0].Err)
	w.Close()
	require.Empty(t, w.demand(t))
	require.Zero(t, w.window.Len())
}

// serve runs a server of a store in memory.
func serve(t *testing.T, s *Store, tokens *Tokens) *bufconn.Listener {
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer()
	NewServer(s, tokens).Register(server)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return listener
}

func dial(t *testing.T, listener *bufconn.Listener) demandv1.DemandServiceClient {
	conn, err := grpc.NewClient("passthrough:///push", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return demandv1.NewDemandServiceClient(conn)
}

func TestReportOverGRPC(t *testing.T) {
	s := NewStore(Options{})
	w := watch(t, s)
	client := dial(t, serve(t, s, tokens(t)))
	stream, err := client.Report(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+asrToken))
	require.NoError(t, err)
	forged := queued(2, 99)
	forged.Namespace = "llm"
	for _, step := range []struct {
		report *demandv1.ReportRequest
		want   demandv1.Outcome
	}{
		{queued(1, 5), demandv1.Outcome_OUTCOME_TAKEN},
		{forged, demandv1.Outcome_OUTCOME_FORBIDDEN},
		{queued(1, 6), demandv1.Outcome_OUTCOME_STALE},
		{queued(2, 7), demandv1.Outcome_OUTCOME_TAKEN},
	} {
		require.NoError(t, stream.Send(step.report))
		a, err := stream.Recv()
		require.NoError(t, err)
		require.Equal(t, step.want, a.GetOutcome(), a.GetError())
	}
	require.NoError(t, stream.CloseSend())
	_, err = stream.Recv()
	require.ErrorIs(t, err, io.EOF)
	require.Equal(t, map[string]float64{"api-0": 7}, w.demand(t), "a stream's end takes nothing back")

	for _, authorization := range []string{"", "Bearer wrong", "Basic " + asrToken} {
		stream, err := client.Report(metadata.AppendToOutgoingContext(t.Context(), "authorization", authorization))
		require.NoError(t, err)
		if err := stream.Send(queued(9, 99)); err != nil {
			require.ErrorIs(t, err, io.EOF, "ended by the server already")
		}
		_, err = stream.Recv()
		require.Equal(t, codes.Unauthenticated, status.Code(err))
	}
	require.Equal(t, map[string]float64{"api-0": 7}, w.demand(t))
}

func TestReportOverHTTP(t *testing.T) {
	s := NewStore(Options{})
	w := watch(t, s)
	server := httptest.NewServer(NewServer(s, tokens(t)))
	defer server.Close()
	post := func(token, body string) (int, map[string]any) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, strings.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		var reply map[string]any
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&reply))
		return resp.StatusCode, reply
	}
	report := func(namespace string, sequence int, value string) string {
		return fmt.Sprintf(`{"namespace":%q,"workload":"lightning-asr","instance":"api-0","sequence":%d,"timeToLive":"10s",
			"samples":[{"name":"demand_queued_requests","value":%s}]}`, namespace, sequence, value)
	}
	for _, step := range []struct {
		token, body string
		code        int
		says        string
	}{
		{asrToken, report("asr", 1, "3"), 200, ""},
		{asrToken, report("asr", 1, "9"), 409, "newer report"},
		{asrToken, report("llm", 2, "9"), 403, "may not report"},
		{asrToken, report("asr", 2, "-9"), 400, "wanted: a number"},
		{asrToken, report("asr", 2, `"NaN"`), 400, "wanted: a number"},
		{asrToken, "{", 400, "ReportRequest as JSON"},
		{asrToken, `{"names":1}`, 400, "ReportRequest as JSON"},
		{asrToken, strings.Repeat(" ", MaxMessage+1), 413, "more than"},
		{"somebody's guess", report("asr", 2, "9"), 401, "bearer token"},
	} {
		code, reply := post(step.token, step.body)
		require.Equal(t, step.code, code, reply)
		if step.says != "" {
			require.Contains(t, reply["error"], step.says)
			require.NotContains(t, fmt.Sprint(reply), step.token)
		}
	}
	require.Equal(t, map[string]float64{"api-0": 3}, w.demand(t))
}

func TestTokens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	write := func(text string, age time.Duration) {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		require.NoError(t, os.Chtimes(path, time.Time{}, time.Now().Add(-age)))
	}
	for text, want := range map[string]string{
		"":                            "holds no token",
		"short asr":                   "line 1: wanted: a token of at least 16 bytes",
		"# x\nno-namespaces-are-here": "line 2: wanted",
	} {
		write(text, 0)
		_, err := ReadTokens(path, slog.New(slog.DiscardHandler))
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "no-namespaces-are-here", "no token in an error")
	}
	_, err := ReadTokens(path+"-none", slog.New(slog.DiscardHandler))
	require.Error(t, err)

	write(asrToken+" asr,tts\n", time.Hour)
	var log bytes.Buffer
	tokens, err := ReadTokens(path, slog.New(slog.NewTextHandler(&log, nil)))
	require.NoError(t, err)
	require.Equal(t, []string{"asr", "tts"}, tokens.namespaces(asrToken))
	require.Empty(t, tokens.Peer())
	write(peerToken+" *\n", 0)
	tokens.checked = time.Time{}
	require.Nil(t, tokens.namespaces(asrToken), "taken back")
	require.Equal(t, []string{"*"}, tokens.namespaces(peerToken))
	require.Equal(t, peerToken, tokens.Peer())
	write("spoilt", time.Minute)
	tokens.checked = time.Time{}
	require.Equal(t, []string{"*"}, tokens.namespaces(peerToken), "a file that is wrong changes nothing")
	tokens.checked = time.Time{}
	require.NotNil(t, tokens.namespaces(peerToken))
	require.Equal(t, 1, strings.Count(log.String(), "the tokens cannot be read again"), "once for each reason")
	require.NotContains(t, log.String(), "spoilt")
	write(asrToken+" asr\n", 0)
	tokens.checked = time.Time{}
	require.Nil(t, tokens.namespaces(peerToken))
	require.Equal(t, 2, strings.Count(log.String(), "the tokens were read again"))
}

func FuzzReport(f *testing.F) {
	f.Add("asr", "lightning-asr", "api-0", uint64(1), int64(10e9), "demand_queued_requests", "model", "x", 3.0)
	f.Add("", "", "", uint64(0), int64(-1), "", "", "", math.NaN())
	f.Fuzz(func(t *testing.T, namespace, workload, instance string, sequence uint64, ttl int64, name, label, labelValue string, v float64) {
		defer time.AfterFunc(20*time.Second, func() { panic("hangs") }).Stop()
		s := NewStore(Options{})
		w := watch(t, s)
		r := &demandv1.ReportRequest{
			Namespace: namespace, Workload: workload, Instance: instance, Sequence: sequence, TimeToLive: durationpb.New(time.Duration(ttl)),
			Samples: []*demandv1.Sample{{Name: name, Labels: map[string]string{label: labelValue}, Value: v}},
		}
		if err := s.accept(r, asr, fromReporter); err != nil {
			require.Empty(t, w.demand(t))
			return
		}
		require.Equal(t, "asr", namespace)
		require.True(t, v >= 0 && v <= MaxValue)
		require.ErrorIs(t, s.accept(r, asr, fromReporter), errSuperseded)
	})
}
