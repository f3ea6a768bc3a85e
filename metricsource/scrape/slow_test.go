package scrape

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/metricsource"
	"github.com/inference-scaler/inference-scaler/metricsource/schedule"
)

// slow are targets that do not come to an end.
var slow = map[string]func(*network){
	"nobody accepts":        func(n *network) { n.accept("slow", n.blackhole) },
	"nobody reads":          func(n *network) { n.accept("slow", n.deaf) },
	"no answer":             func(n *network) { n.serve("slow", hang) },
	"no body":               func(n *network) { n.serve("slow", hangAfter("")) },
	"no end of the body":    func(n *network) { n.serve("slow", hangAfter("q 1\n")) },
	"a byte now and then":   func(n *network) { n.serve("slow", drip) },
	"no end of the headers": func(n *network) { n.accept("slow", dripHeaders) },
}

func hangAfter(part string) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		_, _ = w.Write([]byte(part))
		_ = http.NewResponseController(w).Flush()
		<-req.Context().Done()
	}
}

func drip(w http.ResponseWriter, _ *http.Request) {
	for {
		if _, err := w.Write([]byte("#")); err != nil || http.NewResponseController(w).Flush() != nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func dripHeaders(_ context.Context, server net.Conn) error {
	go func() {
		defer server.Close()
		_, _ = server.Read(make([]byte, 4096))
		_, err := server.Write([]byte("HTTP/1.1 200 OK\r\n"))
		for err == nil {
			time.Sleep(50 * time.Millisecond)
			_, err = server.Write([]byte("X-More: and more\r\n"))
		}
	}()
	return nil
}

func TestSlowTargetDelaysNoOther(t *testing.T) {
	for name, serve := range slow {
		t.Run(name, func(t *testing.T) {
			inBubble(t, setup{}, func(t *testing.T, r *rig) {
				r.net.serve("good", text("q 7\n"))
				serve(r.net)
				r.group.Set([]Target{pod("good"), pod("slow")})
				r.after(r.group.cfg.Timeout)
				require.Equal(t, r.begun.Add(r.group.cfg.Timeout), r.status("slow").Tried, "the limit of a reading")
				r.after(20 * time.Second)
				s := r.status("slow")
				require.ErrorIs(t, s.Err, errTimeout)
				require.Zero(t, s.Answered)
				require.GreaterOrEqual(t, r.counted("timeout"), 5, "it is tried again and again")
				require.Equal(t, map[string]float64{"slow": 0, "good": 1}, r.load("up"))
				for _, gap := range r.gaps("good")[1:] {
					require.Equal(t, time.Second, gap)
				}
			})
		})
	}
}

// A target that hung must be readable as soon as it answers, whatever its
// earlier connection, or attempt at one, is stuck in.
func TestSlowTargetIsReadAgainWhenItAnswers(t *testing.T) {
	for name, serve := range slow {
		t.Run(name, func(t *testing.T) {
			inBubble(t, setup{}, func(t *testing.T, r *rig) {
				serve(r.net)
				r.group.Set([]Target{pod("slow")})
				r.after(10 * time.Second)
				r.net.serve("slow", text("q 7\n"))
				r.after(schedule.MaxBackOff + time.Second)
				require.NoError(t, r.status("slow").Err)
				require.Equal(t, map[string]float64{"slow": 7}, r.load("q"))
			})
		})
	}
}

// The same of TLS: a handshake that does not end is part of connecting.
func TestTargetIsReadAgainAfterAHandshakeThatHung(t *testing.T) {
	certified := httptest.NewTLSServer(nil)
	certified.Close()
	for name, accept := range map[string]func(*network) func(context.Context, net.Conn) error{
		"nobody reads": func(n *network) func(context.Context, net.Conn) error { return n.deaf },
		"no answer":    func(n *network) func(context.Context, net.Conn) error { return n.mute },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, setup{}, func(t *testing.T, r *rig) {
				r.net.serve("a", text("q 7\n"))
				r.net.accept("a", accept(r.net))
				p := pod("a")
				p.URL = "https://a:80/metrics"
				r.group.Set([]Target{p})
				r.after(10 * time.Second)
				require.Error(t, r.status("a").Err)
				require.Zero(t, r.status("a").Answered)
				r.net.accept("a", r.net.passTLS(certified.TLS))
				r.after(schedule.MaxBackOff + time.Second)
				require.NoError(t, r.status("a").Err)
				require.Equal(t, map[string]float64{"a": 7}, r.load("q"))
			})
		})
	}
}

// What a slow target has of this process ends with the target.
func TestSlowTargetThatIsRemovedLeavesNothing(t *testing.T) {
	for name, serve := range slow {
		for when, wait := range map[string]time.Duration{"while read": 100 * time.Millisecond, "between": 500 * time.Millisecond} {
			t.Run(name+", removed "+when, func(t *testing.T) {
				inBubble(t, setup{}, func(t *testing.T, r *rig) {
					serve(r.net)
					r.group.Set([]Target{pod("slow")})
					r.after(wait)
					r.group.Set(nil)
					r.after(100 * time.Millisecond) // of a handler, to note that nobody listens
					require.Zero(t, r.net.open(), "connections, or attempts at one")
					require.Zero(t, r.window.Len())
					require.Empty(t, r.load("up"))
				})
			})
		}
	}
}

// More targets than may be read at once, all of them hanging, cost the others a
// time limit at most.
func TestManySlowTargetsDoNotStarveTheOthers(t *testing.T) {
	inBubble(t, setup{}, func(t *testing.T, r *rig) {
		all := pods(maxInFlightOfGroup + 50)
		for _, p := range all {
			r.net.accept(p.Name, r.net.deaf)
		}
		r.net.serve("good", text("q 7\n"))
		r.group.Set(append(all, pod("good")))
		limit := r.group.cfg.Timeout + tick
		r.after(limit)
		require.NoError(t, r.status("good").Err)
		r.after(4 * time.Second)
		for _, gap := range r.gaps("good") {
			require.LessOrEqual(t, gap, time.Second+limit)
		}
	})
}

func TestRunReturnsWhenAllReadingsHaveEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		defer n.close()
		n.serve("hangs", hang)
		n.serve("answers", text("q 7\n"))
		s := New(Options{Dial: n.dial})
		cfg := config(t, setup{})
		told, release := make(chan struct{}), make(chan struct{})
		cfg.OnRead = func() { close(told); <-release }
		g := s.Open(cfg)
		defer g.Close()
		ctx, cancel := context.WithCancel(t.Context())
		stopped := make(chan error, 1)
		go func() { stopped <- s.Run(ctx) }()
		g.Set([]Target{pod("hangs"), pod("answers")})
		<-told
		cancel()
		synctest.Wait()
		require.Empty(t, stopped, "OnRead has not returned")
		close(release)
		require.NoError(t, <-stopped)

		all := g.Status()
		require.NoError(t, all[0].Err)
		require.Equal(t, metricsource.Status{Target: "hangs", Err: errNotAnswered}, all[1], "to be stopped is no failure of the target")
		_, err := query(t, "up").Eval(t.Context(), cfg.Window, time.Now())
		require.NoError(t, err)
	})
}
