package scrape

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/metricsource"
	"github.com/inference-scaler/inference-scaler/metricsource/schedule"
)

// gaps returns the times between the scrapes of a host. The filtered and the full request of
// one scrape have the same time.
func (r *rig) gaps(name string) []time.Duration {
	var all []time.Duration
	hits := r.net.look(name).hits
	for i := 1; i < len(hits); i++ {
		if gap := hits[i].at.Sub(hits[i-1].at); gap > 0 {
			all = append(all, gap)
		}
	}
	return all
}

func TestTargetIsScrapedImmediatelyAndThenPeriodically(t *testing.T) {
	for _, interval := range []time.Duration{100 * time.Millisecond, time.Second, time.Minute} {
		t.Run(interval.String(), func(t *testing.T) {
			inBubble(t, setup{interval: interval}, func(t *testing.T, r *rig) {
				r.net.serve("a", text("q 7\n"))
				r.after(interval / 3)
				added := time.Now()
				r.group.Set([]Target{pod("a")})
				r.after(0)
				require.Equal(t, map[string]float64{"a": 7}, r.load("q"), "immediately")
				require.Equal(t, metricsource.Status{Target: "a", Answered: added, Tried: added}, r.status("a"))

				r.after(10*interval + tick)
				gaps := r.gaps("a")
				require.LessOrEqual(t, gaps[0], interval+tick)
				require.InDelta(t, 10, len(gaps), 1)
				for _, gap := range gaps[1:] {
					require.Equal(t, interval, gap)
				}
				require.EqualValues(t, len(gaps)+1, r.reads.Load(), "OnRead is called after each scrape")
			})
		})
	}
}

// moments returns the number of scrapes in the last n intervals, by their time within the
// interval.
func (r *rig) moments(n int) map[time.Duration]int {
	interval := r.group.cfg.Interval
	since := time.Now().Add(-time.Duration(n) * interval)
	at := map[time.Duration]int{}
	for name := range r.group.targets {
		for _, h := range r.net.look(name).hits {
			if h.at.After(since) {
				at[h.at.Sub(h.at.Truncate(interval))]++
			}
		}
	}
	return at
}

func TestFewTargetsAreScrapedTogether(t *testing.T) {
	inBubble(t, setup{}, func(t *testing.T, r *rig) {
		for _, p := range pods(5) {
			r.net.serve(p.Name, text("q 7\n"))
		}
		r.group.Set(pods(5))
		r.after(10 * time.Second)
		at := r.moments(5)
		require.LessOrEqual(t, len(at), 2, "5 ms are at most two ticks")
		sum := 0
		for moment, n := range at {
			sum += n
			require.Zero(t, moment%tick, "on the shared grid")
			for other := range at {
				apart := (moment - other + time.Second) % time.Second
				require.LessOrEqual(t, min(apart, time.Second-apart), tick)
			}
		}
		require.Equal(t, 25, sum)
	})
}

func TestManyTargetsAreSpreadOverTheInterval(t *testing.T) {
	const interval = 300 * time.Millisecond
	inBubble(t, setup{interval: interval}, func(t *testing.T, r *rig) {
		all := pods(300)
		for _, p := range all {
			r.net.serve(p.Name, text("q 7\n"))
		}
		r.group.Set(all)
		r.after(3 * interval)
		tenths := [10]int{}
		for moment, n := range r.moments(1) {
			require.Zero(t, moment%tick, "on the shared grid")
			// The spread starts at the group's phase.
			tenths[(moment-r.group.phase+interval)%interval/(interval/10)] += n
		}
		require.Less(t, slices.Max(tenths[:]), 60, "of 300 readings, by tenths of the interval: %v", tenths)
		require.Greater(t, slices.Min(tenths[:]), 5, "of 300 readings, by tenths of the interval: %v", tenths)
	})
}

func TestGroupsHaveDifferentPhases(t *testing.T) {
	inBubble(t, setup{}, func(t *testing.T, r *rig) {
		moments := map[time.Duration]bool{}
		for i := range 20 {
			g := r.scraper.Open(r.group.cfg)
			defer g.Close() //nolint:gocritic // all groups are open until the end of the test
			p := pod(fmt.Sprint("of-group-", i))
			r.net.serve(p.Name, text("q 7\n"))
			g.Set([]Target{p})
		}
		r.after(2 * time.Second)
		for i := range 20 {
			last := r.net.look(fmt.Sprint("of-group-", i)).hits[1]
			moments[last.at.Sub(last.at.Truncate(time.Second))] = true
		}
		require.Greater(t, len(moments), 10)
	})
}

func TestFailingTargetBacksOff(t *testing.T) {
	inBubble(t, setup{}, func(t *testing.T, r *rig) {
		r.net.serve("a", status(http.StatusServiceUnavailable))
		r.group.Set([]Target{pod("a")})
		r.after(time.Minute)
		gaps := r.gaps("a")
		require.LessOrEqual(t, gaps[0], time.Second+tick, "no back-off after one failure")
		for i, longest := range []time.Duration{2 * time.Second, 4 * time.Second} {
			require.InDelta(t, longest*9/10, gaps[i+1], float64(longest/10+tick))
		}
		for _, gap := range gaps[3:] {
			require.InDelta(t, schedule.MaxBackOff*9/10, gap, float64(schedule.MaxBackOff/10+tick))
		}
		require.NotEqual(t, slices.Min(gaps[3:]), slices.Max(gaps[3:]), "jitter")

		r.net.serve("a", text("q 7\n"))
		r.after(schedule.MaxBackOff + tick)
		require.NoError(t, r.status("a").Err)
		healthy := len(r.gaps("a"))
		r.after(5 * time.Second)
		r.net.serve("a", status(http.StatusServiceUnavailable))
		r.after(time.Second)
		require.Error(t, r.status("a").Err)
		r.after(time.Second)
		for _, gap := range r.gaps("a")[healthy+1:] {
			require.Equal(t, time.Second, gap, "a success resets the back-off")
		}
	})
}

func TestTargetThatBecomesReadyIsScrapedImmediately(t *testing.T) {
	inBubble(t, setup{}, func(t *testing.T, r *rig) {
		starting := pod("a")
		starting.Ready = false
		r.group.Set([]Target{starting})
		r.after(time.Minute)
		for time.Since(r.status("a").Tried) != time.Second { // within a pause of 4 s or more
			r.after(tick)
		}
		r.net.serve("a", text("q 7\n"))
		r.group.Set([]Target{starting})
		r.after(time.Second)
		require.Error(t, r.status("a").Err, "unchanged readiness")

		r.group.Set([]Target{pod("a")})
		r.after(0)
		require.NoError(t, r.status("a").Err)
		require.Equal(t, map[string]float64{"a": 7}, r.load("q"))

		r.group.Set([]Target{pod("a")})
		r.after(0)
		require.Len(t, r.net.look("a").hits, 1, "a target that remains ready is scraped when it is due")
	})
}

func TestOnGrid(t *testing.T) {
	base := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for at, want := range map[time.Duration]time.Duration{
		0: 0, 1: tick, tick - 1: tick, tick: tick, tick + 1: 2 * tick,
	} {
		require.Equal(t, base.Add(want), onGrid(base.Add(at)), at)
	}
}

func TestSetInterval(t *testing.T) {
	inBubble(t, setup{interval: 10 * time.Second}, func(t *testing.T, r *rig) {
		r.net.serve("a", text("q 7\n"))
		r.group.Set([]Target{pod("a")})
		r.after(15 * time.Second)
		before := r.reads.Load()
		r.group.SetInterval(250 * time.Millisecond)
		r.after(time.Second)
		require.InDelta(t, 4, r.reads.Load()-before, 1, "immediately, not after the previous interval")
		r.group.SetInterval(10 * time.Second)
		r.after(250 * time.Millisecond)
		before = r.reads.Load()
		r.after(9 * time.Second)
		require.LessOrEqual(t, r.reads.Load()-before, int64(1))
	})
}
