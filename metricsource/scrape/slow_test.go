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

// slow are targets whose responses never end.
var slow = map[string]func(*network){
	"does not accept":    func(n *network) { n.accept("slow", n.blackhole) },
	"does not read":      func(n *network) { n.accept("slow", n.deaf) },
	"no response":        func(n *network) { n.serve("slow", hang) },
	"no body":            func(n *network) { n.serve("slow", hangAfter("")) },
	"incomplete body":    func(n *network) { n.serve("slow", hangAfter("q 1\n")) },
	"one byte at a time": func(n *network) { n.serve("slow", drip) },
	"endless headers":    func(n *network) { n.accept("slow", dripHeaders) },
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

func TestSlowTargetDoesNotDelayOthers(t *testing.T) {
	for name, serve := range slow {
		t.Run(name, func(t *testing.T) {
			inBubble(t, setup{}, func(t *testing.T, r *rig) {
				r.net.serve("good", text("q 7\n"))
				serve(r.net)
				r.group.Set([]Target{pod("good"), pod("slow")})
				r.after(r.group.cfg.Timeout)
				require.Equal(t, r.begun.Add(r.group.cfg.Timeout), r.status("slow").Tried, "the timeout of a scrape")
				r.after(20 * time.Second)
				s := r.status("slow")
				require.ErrorIs(t, s.Err, errTimeout)
				require.Zero(t, s.Answered)
				require.GreaterOrEqual(t, r.counted("timeout"), 5, "it is retried")
				require.Equal(t, map[string]float64{"slow": 0, "good": 1}, r.load("up"))
				for _, gap := range r.gaps("good")[1:] {
					require.Equal(t, time.Second, gap)
				}
			})
		})
	}
}

// A target is scraped again as soon as it responds, even if an earlier connection or
// connection attempt still hangs.
func TestSlowTargetRecovers(t *testing.T) {
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

// The same applies to a TLS handshake that hangs.
func TestTargetRecoversAfterAHangingHandshake(t *testing.T) {
	certified := httptest.NewTLSServer(nil)
	certified.Close()
	for name, accept := range map[string]func(*network) func(context.Context, net.Conn) error{
		"does not read": func(n *network) func(context.Context, net.Conn) error { return n.deaf },
		"no response":   func(n *network) func(context.Context, net.Conn) error { return n.mute },
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

// All resources of a slow target are released when it is removed.
func TestRemovedSlowTargetReleasesItsResources(t *testing.T) {
	for name, serve := range slow {
		for when, wait := range map[string]time.Duration{"during a scrape": 100 * time.Millisecond, "between scrapes": 500 * time.Millisecond} {
			t.Run(name+", removed "+when, func(t *testing.T) {
				inBubble(t, setup{}, func(t *testing.T, r *rig) {
					serve(r.net)
					r.group.Set([]Target{pod("slow")})
					r.after(wait)
					r.group.Set(nil)
					r.after(100 * time.Millisecond) // the handler notices the closed connection
					require.Zero(t, r.net.open(), "connections and connection attempts")
					require.Zero(t, r.window.Len())
					require.Empty(t, r.load("up"))
				})
			})
		}
	}
}

// More hanging targets than concurrent scrapes delay other targets by at most one timeout.
func TestManySlowTargetsDoNotStarveOthers(t *testing.T) {
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

func TestRunWaitsForScrapesInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		defer n.close()
		n.serve("hangs", hang)
		n.serve("answers", text("q 7\n"))
		s := New(Options{Dial: n.dial})
		cfg := config(t, setup{})
		called, release := make(chan struct{}), make(chan struct{})
		cfg.OnRead = func() { close(called); <-release }
		g := s.Open(cfg)
		defer g.Close()
		ctx, cancel := context.WithCancel(t.Context())
		stopped := make(chan error, 1)
		go func() { stopped <- s.Run(ctx) }()
		g.Set([]Target{pod("hangs"), pod("answers")})
		<-called
		cancel()
		synctest.Wait()
		require.Empty(t, stopped, "OnRead has not returned")
		close(release)
		require.NoError(t, <-stopped)

		all := g.Status()
		require.NoError(t, all[0].Err)
		require.Equal(t, metricsource.Status{Target: "hangs", Err: errNotRead}, all[1], "a cancelled scrape is not a failure of the target")
		_, err := query(t, "up").Eval(t.Context(), cfg.Window, time.Now())
		require.NoError(t, err)
	})
}
