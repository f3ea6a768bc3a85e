package sim

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func collect(a Arrivals) (all []Arrival) {
	for {
		arrival, ok := a.Next()
		if !ok {
			return all
		}
		all = append(all, arrival)
	}
}

func TestPoisson(t *testing.T) {
	phases := []Phase{{"low", 100 * time.Second, 2}, {"none", 50 * time.Second, 0}, {"high", 100 * time.Second, 50}}
	service := Service{Min: time.Second, Mean: 3 * time.Second}
	all := collect(NewPoisson(7, zero, phases, service))
	require.Equal(t, all, collect(NewPoisson(7, zero, phases, service)), "the same seed gives the same arrivals")
	require.NotEqual(t, all, collect(NewPoisson(8, zero, phases, service)))

	var low, high int
	var sum time.Duration
	last := zero
	for _, a := range all {
		require.False(t, a.At.Before(last))
		last = a.At
		switch elapsed := a.At.Sub(zero); {
		case elapsed < 100*time.Second:
			low++
		case elapsed < 150*time.Second:
			require.Fail(t, "an arrival at a rate of 0")
		default:
			high++
		}
		require.GreaterOrEqual(t, a.Service, time.Second)
		sum += a.Service
	}
	require.False(t, last.After(at(250)))
	require.InDelta(t, 200, low, 45) // three standard deviations
	require.InDelta(t, 5000, high, 215)
	require.InDelta(t, 3, (sum / time.Duration(len(all))).Seconds(), 0.1)

	longer := collect(NewPoisson(7, zero, phases, Service{Min: time.Second, Mean: 9 * time.Second}))
	require.Equal(t, all[100].At, longer[100].At, "service times do not change the arrivals")
	require.Empty(t, collect(NewPoisson(7, zero, nil, service)))
}

func TestPhaseAt(t *testing.T) {
	phases := []Phase{{"a", 10 * time.Second, 1}, {"b", 5 * time.Second, 2}}
	for elapsed, want := range map[time.Duration]string{0: "a", 9 * time.Second: "a", 10 * time.Second: "b", time.Hour: "b"} {
		p, began := PhaseAt(phases, elapsed)
		require.Equal(t, want, p.Name)
		require.Equal(t, map[string]time.Duration{"a": 0, "b": 10 * time.Second}[want], began)
	}
	p, _ := PhaseAt(nil, 0)
	require.Zero(t, p)
}
