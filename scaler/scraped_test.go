package scaler

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/metricsource"
)

// A reading of the same value that comes while the query is answered, in a window that
// thins: what was found without it does not stand for what there is.
func TestResultIsKeptOnlyOfAWholeWindow(t *testing.T) {
	q, err := metricsource.ParseQuery("sum(x)")
	require.NoError(t, err)
	base := time.UnixMilli(1_700_000_000_000)
	wrong := 0
	const rounds = 20000
	for range rounds {
		win := metricsource.NewWindow(10 * time.Minute)
		s := &scraped{live: &live{}, window: win, said: map[*metricsource.Query]said{}}
		tg := win.Target(labels.FromStrings("pod", "a"))
		x := tg.Series(labels.FromStrings("__name__", "x"))
		put := func(ms int, v float64) {
			_ = tg.Commit(base.Add(time.Duration(ms)*time.Millisecond), []metricsource.Point{{Series: x, Value: v}})
		}
		put(0, 3)
		put(990, 5)
		var wg sync.WaitGroup
		wg.Go(func() { s.ask(context.Background(), "load", q, base.Add(1900*time.Millisecond)) })
		wg.Go(func() { put(1985, 5) })
		wg.Wait()
		for i := range 60 { // a minute of readings that say 5
			put(1985+1000*(i+1), 5)
		}
		r, _ := s.ask(context.Background(), "load", q, base.Add(2*time.Minute))
		if r.Elements[0].Value != 5 {
			wrong++
		}
	}
	require.Zero(t, wrong, "of %d", rounds)
}
