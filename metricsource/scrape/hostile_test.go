package scrape

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/metricsource"
)

// hostile are kinds of malicious targets, with their number and the expected error.
var hostile = []struct {
	kind  string
	count int
	serve func(*network, string)
	fault string
}{
	{"hangs after the headers", 20, func(n *network, name string) { n.serve(name, hangAfter("")) }, errTimeout.Error()},
	{"resets", 20, func(n *network, name string) { n.accept(name, reset) }, "EOF|closed pipe"},
	{"garbage", 20, func(n *network, name string) { n.serve(name, text("q{a=\x00\xff} x\n\n{}{}{}q q q\n")) }, "line 1"},
	{"100 MB", 20, func(n *network, name string) { n.serve(name, huge) }, "larger than"},
	{"15 MB without an end", 20, func(n *network, name string) { n.serve(name, endless) }, "no response within the timeout|too many responses in flight that are larger than"},
	{"redirects", 10, func(n *network, name string) { n.serve(name, redirect) }, "redirects are not followed"},
	{"drips", 10, func(n *network, name string) { n.serve(name, dripSlowly) }, errTimeout.Error()},
	{"changes its series", 10, func(n *network, name string) { n.serve(name, changing()) }, ""},
}

func reset(_ context.Context, server net.Conn) error {
	go func() {
		_, _ = server.Read(make([]byte, 1))
		_ = server.Close()
	}()
	return nil
}

// filler consists of lines that no query selects.
var filler = []byte(strings.Repeat("filler_total 1\n", 1<<15))

func huge(w http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(w, "q 1\n")
	for sent := 0; sent < 100<<20; sent += len(filler) {
		if _, err := w.Write(filler); err != nil {
			return
		}
	}
}

func endless(w http.ResponseWriter, req *http.Request) {
	_, _ = io.WriteString(w, "q 1\n")
	for sent := 0; sent < 15<<20; sent += len(filler) {
		if _, err := w.Write(filler); err != nil {
			return
		}
	}
	<-req.Context().Done()
}

func redirect(w http.ResponseWriter, req *http.Request) {
	http.Redirect(w, req, "http://good-000:80/metrics", http.StatusFound)
}

func dripSlowly(w http.ResponseWriter, _ *http.Request) {
	for {
		if _, err := w.Write([]byte("q")); err != nil || http.NewResponseController(w).Flush() != nil {
			return
		}
		time.Sleep(time.Second)
	}
}

// changing responds with new series each time.
func changing() http.HandlerFunc {
	var round atomic.Int64
	return func(w http.ResponseWriter, _ *http.Request) {
		n := round.Add(1)
		w.Header().Set("Content-Type", textFormat)
		for i := range 100 {
			_, _ = fmt.Fprintf(w, "q{request=\"%d-%d\"} 1\n", n, i)
		}
	}
}

// 130 malicious targets do not delay the scrapes of 100 other targets. Memory is bounded,
// and each malicious target has a clear error.
func TestHostileTargets(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(25)) // the heap then contains little garbage
	inBubble(t, setup{}, func(t *testing.T, r *rig) {
		var targets []Target
		add := func(name string) { targets = append(targets, pod(name)) }
		hits := make([]atomic.Int64, 100)
		for i := range 100 {
			name := fmt.Sprintf("good-%03d", i)
			respond := text(fmt.Sprintf("q %d\n", i))
			r.net.serve(name, func(w http.ResponseWriter, req *http.Request) {
				hits[i].Add(1)
				respond(w, req)
			})
			add(name)
		}
		for k, h := range hostile {
			for i := range h.count {
				name := fmt.Sprintf("bad-%d-%d", k, i)
				h.serve(r.net, name)
				add(name)
			}
		}
		before := heap()
		r.group.Set(targets)
		most, bad := uint64(0), 0
		const seconds = 5
		for range seconds * 10 {
			r.after(100 * time.Millisecond)
			most = max(most, heap())
		}
		load := r.load("sum by (pod) (q)")
		for i := range 100 {
			name := fmt.Sprintf("good-%03d", i)
			require.InDelta(t, seconds, hits[i].Load(), 1, name)
			require.InDelta(t, float64(i), load[name], 0, name)
			s := r.status(name)
			require.NoError(t, s.Err)
			require.LessOrEqual(t, time.Since(s.Answered), 1100*time.Millisecond, name)
		}
		for k, h := range hostile {
			for i := range h.count {
				name := fmt.Sprintf("bad-%d-%d", k, i)
				bad++
				err := r.status(name).Err
				if h.fault == "" {
					require.NoError(t, err, h.kind)
					require.InDelta(t, 100, load[name], 0, "only the series of its last response")
					require.LessOrEqual(t, len(r.reader(name).series), 400)
					continue
				}
				require.Error(t, err, h.kind)
				require.Regexp(t, h.fault, err.Error(), h.kind)
				require.NotContains(t, load, name, h.kind)
			}
		}
		require.Equal(t, 130, bad)
		t.Logf("at most %d MiB more than the initial %d MiB", (most-before)>>20, before>>20)
		require.Less(t, most-before, uint64(192<<20))
		require.LessOrEqual(t, r.window.Len(), 100+10*100*60, "limited by the lookback")
	})
}

// A body with 1,000,000 series is rejected, and none of the series is stored.
func TestMillionSeries(t *testing.T) {
	inBubble(t, setup{}, func(t *testing.T, r *rig) {
		var body []byte
		for i := range int64(1_000_000) {
			body = append(body, `q{a="`...)
			body = append(strconv.AppendInt(body, i, 36), "\"} 1\n"...)
		}
		require.Less(t, len(body), maxBody)
		r.net.serve("pod-0000", text(string(body)))
		r.group.Set(pods(1))
		r.after(3 * time.Second)
		require.ErrorIs(t, r.status("pod-0000").Err, metricsource.ErrTooManySeries)
		require.LessOrEqual(t, len(r.reader("pod-0000").series), 2*metricsource.MaxSeries+64)
		require.Zero(t, r.window.Len())
	})
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
