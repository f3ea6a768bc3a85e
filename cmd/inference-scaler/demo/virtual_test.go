package demo

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/scaler/hpa"
	"github.com/inference-scaler/inference-scaler/scaler/sim"
)

// maxScaler is a simple scaler: its value is the largest load within the hold.
type maxScaler struct {
	hold  time.Duration
	loads []loadSample
}

type loadSample struct {
	at   time.Time
	load int
}

func (m *maxScaler) value(now time.Time, load int) int {
	m.loads = append(m.loads, loadSample{now, load})
	largest := 0
	for _, l := range m.loads {
		if l.at.After(now.Add(-m.hold)) {
			largest = max(largest, l.load)
		}
	}
	return largest
}

// The default scenario in virtual time scales up from zero in steps, below the maximum and without
// a long wait. It then scales down slowly by the guide's behavior, and to zero.
func TestDefaultScenario(t *testing.T) {
	s := DefaultScenario()
	require.NoError(t, s.Validate())
	require.LessOrEqual(t, s.Real(s.Duration()), 45*time.Second)

	fleet := sim.NewFleet(zero, s.Replicas, s.Shape, sim.NewPoisson(s.Seed, zero, s.Phases, s.Service), sim.NewNodes([]int{1 << 20}), 0)
	autoscaler, memory := hpa.Spec{MinReplicas: max(1, s.Min), MaxReplicas: s.Max, Behavior: s.Behavior}, hpa.Memory{}
	scaler := maxScaler{hold: s.Hold}
	replicas, lastActive := []int{s.Replicas}, time.Duration(0)
	scale := func(n int) {
		fleet.Scale(n)
		if n != replicas[len(replicas)-1] {
			replicas = append(replicas, n)
		}
	}
	for elapsed := time.Duration(0); elapsed <= s.Duration(); elapsed += s.Interval {
		now := zero.Add(elapsed)
		fleet.Advance(now)
		load := fleet.Stats().Load()
		value := scaler.value(now, load)
		if load > 0 {
			lastActive = elapsed
		}
		switch awake := fleet.Stats().Replicas > 0; {
		case !awake && load > 0:
			scale(1) // as KEDA does
		case awake && elapsed-lastActive >= s.Cooldown:
			scale(0)
		}
		if elapsed%s.Sync != 0 || fleet.Stats().Replicas == 0 {
			continue
		}
		var result hpa.Result
		n := fleet.Stats().Replicas
		result, memory = autoscaler.Sync(now, hpa.Scale{Spec: n, Status: n}, []hpa.Metric{hpa.MetricOf(float64(value), s.Target)}, memory)
		scale(result.Replicas)
	}
	require.Equal(t, []int{0, 1, 2, 3, 6, 8, 7, 6, 0}, replicas)
	st := fleet.Stats()
	require.Less(t, st.LongestWait, 30*time.Second, "a cold start takes 22 s")
	require.Equal(t, st.Arrived, st.Served)
	require.Greater(t, st.Served, 1500)
}
