package scrape

import (
	"math/rand/v2"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/metricsource"
)

func TestStatusIsOrderedByNameAndStartsUnread(t *testing.T) {
	g := New(Options{}).Open(config(t, setup{}))
	defer g.Close()
	require.Empty(t, g.Status())
	g.Set([]Target{pod("c"), pod("a"), pod("b")})
	require.Equal(t, []metricsource.Status{
		{Target: "a", Err: errNotRead}, {Target: "b", Err: errNotRead}, {Target: "c", Err: errNotRead},
	}, g.Status(), "no scrape before Run")
}

func TestRequestHeaders(t *testing.T) {
	inBubble(t, filterSetup, func(t *testing.T, r *rig) {
		r.net.serve("a", python(filterBody))
		r.group.Set([]Target{pod("a")})
		r.after(time.Second + tick)
		hits := r.net.look("a").hits
		require.Len(t, hits, 2)
		for _, h := range hits {
			require.Equal(t, http.MethodGet, h.method)
			require.Equal(t, "/metrics", h.path)
			require.Equal(t, http.Header{
				"Accept":          {accept},
				"Accept-Encoding": {"identity"},
				"User-Agent":      {"inference-scaler"},
			}, h.header)
		}
	})
}

func TestConnectionIsReused(t *testing.T) {
	for _, interval := range []time.Duration{100 * time.Millisecond, time.Second, time.Minute} {
		inBubble(t, setup{interval: interval}, func(t *testing.T, r *rig) {
			r.net.serve("a", text("q 7\n"))
			r.group.Set([]Target{pod("a")})
			r.after(20 * interval)
			require.GreaterOrEqual(t, len(r.net.look("a").hits), 20)
			require.Equal(t, 1, r.net.look("a").dialled)
			require.Equal(t, 1, r.net.open())
			r.group.Set(nil)
			synctest.Wait()
			require.Zero(t, r.net.open(), "it is closed with its target")
		})
	}
}

func TestServerClosesItsConnections(t *testing.T) {
	inBubble(t, setup{}, func(t *testing.T, r *rig) {
		r.net.serve("a", with("Connection", "close", text("q 7\n")))
		r.group.Set([]Target{pod("a")})
		r.after(10 * time.Second)
		require.Equal(t, int(r.reads.Load()), r.counted("ok"))
		require.Equal(t, len(r.net.look("a").hits), r.net.look("a").dialled)
		require.Zero(t, r.net.open())
	})
}

func TestNewTargetWithTheSameName(t *testing.T) {
	for name, change := range map[string]func(*Target){
		"new UID": func(p *Target) { p.UID = "another" },
		"new URL": func(p *Target) { p.URL = "http://b:80/metrics" },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, setup{}, func(t *testing.T, r *rig) {
				r.net.serve("a", text("q 7\nq{x=\"1\"} 1\n"))
				r.net.serve("b", text("q 7\nq{x=\"1\"} 1\n"))
				r.group.Set([]Target{pod("a"), pod("b")})
				r.after(3 * time.Second)
				later := func(w http.ResponseWriter, req *http.Request) {
					time.Sleep(50 * time.Millisecond)
					text("q 2\n")(w, req)
				}
				r.net.serve("a", later)
				r.net.serve("b", later)
				other := pod("a")
				change(&other)
				r.group.Set([]Target{other, pod("b")})
				require.Equal(t, errNotRead, r.group.Status()[0].Err)
				require.NotContains(t, r.load("sum by (pod) (q)"), "a")
				r.after(50 * time.Millisecond)
				require.Equal(t, 2.0, r.load("sum by (pod) (q)")["a"], "scraped immediately")
				require.Equal(t, 2, r.net.open())
			})
		})
	}
}

func TestUnchangedTargetsAreNotScrapedEarly(t *testing.T) {
	inBubble(t, setup{}, func(t *testing.T, r *rig) {
		r.net.serve("a", text("q 7\n"))
		for range 300 {
			r.group.Set([]Target{pod("a")})
			r.after(10 * time.Millisecond)
		}
		require.LessOrEqual(t, len(r.net.look("a").hits), 5)
		require.Equal(t, 1, r.net.look("a").dialled)
	})
}

// The response of a removed target must not reach the window.
func TestTargetRemovedDuringAScrape(t *testing.T) {
	for name, serve := range map[string]http.HandlerFunc{
		"immediately":     nil,
		"before response": func(_ http.ResponseWriter, _ *http.Request) { time.Sleep(200 * time.Millisecond) },
		"in the body":     hangAfter("q{x=\"2\"} 5\n"),
		"same instant":    func(_ http.ResponseWriter, _ *http.Request) { time.Sleep(100 * time.Millisecond) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, setup{}, func(t *testing.T, r *rig) {
				respond := text("q 5\nq{x=\"1\"} 5\n")
				r.net.serve("a", func(w http.ResponseWriter, req *http.Request) {
					if serve != nil {
						serve(w, req)
					}
					respond(w, req)
				})
				r.group.Set([]Target{pod("a")})
				if serve != nil {
					time.Sleep(100 * time.Millisecond) // no Wait: other due goroutines run concurrently
				}
				r.group.Set(nil)
				require.Empty(t, r.group.Status())
				r.after(0) // OnRead of a scrape that has just ended
				reads := r.reads.Load()
				r.after(time.Minute)
				require.Empty(t, r.load(`{__name__=~"up|q"}`))
				require.Zero(t, r.window.Len())
				require.Equal(t, reads, r.reads.Load())
				require.LessOrEqual(t, len(r.net.look("a").hits), 1)
			})
		})
	}
}

// Targets are removed and replaced by others of the same name, in random order.
func TestTargetsChangeAtRandom(t *testing.T) {
	inBubble(t, setup{interval: 100 * time.Millisecond, timeout: 50 * time.Millisecond, lookback: time.Minute}, func(t *testing.T, r *rig) {
		names := []string{"a", "b", "c", "d", "e"}
		rnd := rand.New(rand.NewPCG(1, 2))
		for i := range 150 {
			var now []Target
			for _, name := range names {
				switch rnd.IntN(4) {
				case 0:
					r.net.serve(name, text("q 7\n"))
				case 1:
					r.net.serve(name, func(w http.ResponseWriter, req *http.Request) {
						time.Sleep(time.Duration(len(req.Host)+i%60) * time.Millisecond)
						text("q 7\nq{x=\"1\"} 1\n")(w, req)
					})
				case 2:
					r.net.at(name, func(h *host) { h.accept = refuse })
				}
				if p := pod(name); rnd.IntN(3) > 0 {
					p.UID = []string{"1", "2"}[rnd.IntN(2)]
					p.Ready = rnd.IntN(2) == 0
					now = append(now, p)
				}
			}
			r.group.Set(now)
			time.Sleep(time.Duration(rnd.IntN(12)) * tick / 2)
			require.Len(t, r.group.Status(), len(now))
			require.LessOrEqual(t, len(r.load("up")), len(now))
		}
		r.group.Close()
		synctest.Wait()
		require.Zero(t, r.window.Len())
		require.Empty(t, r.load(`{__name__=~"up|q"}`))
		require.Zero(t, r.net.open())
	})
}

// A target that becomes ready at its due time is not scraped twice concurrently, because
// only one goroutine can use its reader. The race detector finds a violation.
func TestTargetBecomesReadyAtItsDueTime(t *testing.T) {
	inBubble(t, setup{interval: 200 * time.Millisecond, timeout: 50 * time.Millisecond}, func(t *testing.T, r *rig) {
		ready, not := pods(50), pods(50)
		for i, p := range ready {
			r.net.serve(p.Name, text("q 7\n"))
			not[i].Ready = false
		}
		r.group.Set(not)
		r.after(0)
		for _, p := range r.group.targets {
			p.offset = 0 // all at the same time
		}
		due := onGrid(time.Now().Truncate(time.Second).Add(r.group.phase))
		time.Sleep(time.Until(due))
		for range 20 {
			due = due.Add(200 * time.Millisecond)
			time.Sleep(time.Until(due)) // no Wait: the scrapes are in flight
			r.group.Set(ready)
			r.after(0)
			r.group.Set(not)
		}
		require.Equal(t, int(r.reads.Load()), r.counted("ok"))
	})
}

func TestGroupsAreIndependent(t *testing.T) {
	inBubble(t, setup{}, func(t *testing.T, r *rig) {
		cfg := config(t, setup{needed: []string{"w"}})
		other := r.scraper.Open(cfg)
		r.net.serve("a", text("q 7\nw 3\n"))
		r.group.Set([]Target{pod("a")})
		other.Set([]Target{{Name: "a", URL: "http://a:80/metrics", Labels: labels.FromStrings("pod", "other")}})
		r.after(0)
		require.Empty(t, r.load("w"))
		require.Equal(t, 1, cfg.Window.Len())
		r.group.Set(nil)
		r.after(5 * time.Second)
		require.NoError(t, other.Status()[0].Err)
		require.Equal(t, time.Second, time.Since(other.Status()[0].Answered).Truncate(time.Second)+time.Second, "it is still scraped")
		other.Close()
		require.Zero(t, cfg.Window.Len())
	})
}
