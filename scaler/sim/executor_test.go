package sim

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestExecutor(t *testing.T) {
	phases := []Phase{{"", 10 * time.Second, 0}, {"", 10 * time.Second, 1}, {"", time.Hour, 0}}
	fleet := NewFleet(zero, 0, Shape{Name: "asr", Slots: 8}, NewPoisson(1, zero, phases, Service{Min: time.Second, Mean: time.Second}))
	w := newWorld(fleet.nodes, []*Fleet{fleet}, zero, 1)
	e := &executor{world: w, cooldown: time.Minute}
	replicas := func() (n int) {
		w.look(func(fleets []*Fleet, _ time.Duration) { n = fleets[0].Stats().Replicas })
		return n
	}
	at := func(elapsed time.Duration) { w.begin(time.Now().Add(-elapsed)) }

	at(5 * time.Second)
	e.active(false)
	require.Zero(t, replicas())
	at(20 * time.Second)
	e.active(true)
	require.Equal(t, 1, replicas())
	woken, after := e.wake()
	require.True(t, woken)
	require.Positive(t, after)
	require.Less(t, after, 10*time.Second)
	at(70 * time.Second)
	e.active(false)
	require.Equal(t, 1, replicas(), "not for the cooldown yet")
	at(81 * time.Second)
	e.active(false)
	require.Zero(t, replicas())

	e.min = 1
	e.active(true)
	at(time.Hour)
	e.active(false)
	require.Equal(t, 1, replicas(), "its minimum")
}
