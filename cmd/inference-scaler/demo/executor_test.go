package demo

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/scaler/sim"
)

var zero = time.Unix(0, 0)

func at(seconds float64) time.Time { return zero.Add(time.Duration(seconds * float64(time.Second))) }

func TestExecutor(t *testing.T) {
	phases := []sim.Phase{phase("", 10*time.Second, 0), phase("", 10*time.Second, 1), phase("", time.Hour, 0)}
	nodes := sim.NewNodes(nil)
	fleet := sim.NewFleet(zero, 0, sim.Shape{Name: "asr", Slots: 8}, sim.NewPoisson(1, zero, phases, sim.Service{Min: time.Second, Mean: time.Second}), nodes, 0)
	w := newWorld(nodes, []*sim.Fleet{fleet}, zero, 1)
	e := &executor{world: w, cooldown: time.Minute}
	replicas := func() (n int) {
		w.withFleets(func(fleets []*sim.Fleet, _ time.Duration) { n = fleets[0].Stats().Replicas })
		return n
	}
	at := func(elapsed time.Duration) { w.start(time.Now().Add(-elapsed)) }

	at(5 * time.Second)
	e.onActive(false)
	require.Zero(t, replicas())
	at(20 * time.Second)
	e.onActive(true)
	require.Equal(t, 1, replicas())
	woken, delay := e.wake()
	require.True(t, woken)
	require.Positive(t, delay)
	require.Less(t, delay, 10*time.Second)
	at(70 * time.Second)
	e.onActive(false)
	require.Equal(t, 1, replicas(), "within the cooldown")
	at(81 * time.Second)
	e.onActive(false)
	require.Zero(t, replicas())

	e.min = 1
	e.onActive(true)
	at(time.Hour)
	e.onActive(false)
	require.Equal(t, 1, replicas(), "minReplicaCount: 1")
}
