package evidence

import (
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/metricsource"
)

var base = time.UnixMilli(1_700_000_000_000)

func at(ms int) time.Time { return base.Add(time.Duration(ms) * time.Millisecond) }

// written is a window with one series x of one pod, and a function that writes it.
func written(t *testing.T, lookback time.Duration) (*metricsource.Window, func(ms int, v float64)) {
	w := metricsource.NewWindow(lookback)
	pod := w.Target(labels.FromStrings("pod", "a"))
	x := pod.Series(labels.FromStrings("__name__", "x"))
	return w, func(ms int, v float64) {
		require.NoError(t, pod.Commit(at(ms), []metricsource.Point{{Series: x, Value: v}}))
	}
}

func parse(t *testing.T, text string) *metricsource.Query {
	q, err := metricsource.ParseQuery(text)
	require.NoError(t, err)
	return q
}

// A sample with an unchanged value arrives while the query runs, in a window that thins
// samples: a result without it must not be remembered.
func TestResultsAreRememberedOfAWholeWindowOnly(t *testing.T) {
	q := parse(t, "sum(x)")
	wrong := 0
	const rounds = 20000
	for range rounds {
		var results Results
		w, put := written(t, 10*time.Minute)
		put(0, 3)
		put(990, 5)
		var running sync.WaitGroup
		running.Go(func() { _, _ = results.eval(t.Context(), q, w, w, false, at(1900)) })
		running.Go(func() { put(1985, 5) })
		running.Wait()
		for i := range 60 { // a minute of samples with the value 5
			put(1985+1000*(i+1), 5)
		}
		r, err := results.eval(t.Context(), q, w, w, false, at(2*60_000))
		require.NoError(t, err)
		if r.Elements[0].Value != 5 {
			wrong++
		}
	}
	require.Zero(t, wrong, "of %d", rounds)
}

// A query about a moment before the newest sample does not read the whole window.
func TestResultOfAnEarlierMomentIsNotRemembered(t *testing.T) {
	q := parse(t, "sum(x)")
	var results Results
	w, put := written(t, time.Minute)
	put(0, 20)
	put(1000, 0)
	_, err := results.eval(t.Context(), q, w, w, false, at(500))
	require.NoError(t, err)
	require.Empty(t, results.last)
	for range 2 {
		r, err := results.eval(t.Context(), q, w, w, false, at(1500))
		require.NoError(t, err)
		require.Zero(t, r.Elements[0].Value)
	}
	require.NotEmpty(t, results.last)
}
