package sim

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// hindsight stands for a scaler here: the largest load of the last hold.
type hindsight struct {
	hold  time.Duration
	loads []recommendation
}

func (h *hindsight) value(now time.Time, load int) int {
	h.loads = append(h.loads, recommendation{now, load})
	largest := 0
	for _, l := range h.loads {
		if l.at.After(now.Add(-h.hold)) {
			largest = max(largest, l.replicas)
		}
	}
	return largest
}

// The story's parts fit together and are worth watching, seen in virtual time:
// it wakes, scales up in steps, reaches neither the maximum nor an absurd wait,
// begins the guide's slow way down, and falls asleep.
func TestDefaultStoryInVirtualTime(t *testing.T) {
	s := DefaultStory()
	require.NoError(t, s.Validate())
	require.LessOrEqual(t, s.Real(s.Duration()), 45*time.Second)

	fleet := NewFleet(zero, s.Replicas, s.Shape, NewPoisson(s.Seed, zero, s.Phases, s.Service))
	hpa := &HPA{Behavior: s.Behavior, Min: max(1, s.Min), Max: s.Max}
	scaler := hindsight{hold: s.Hold}
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
			scale(1) // KEDA's part
		case awake && elapsed-lastActive >= s.Cooldown:
			scale(0)
		}
		if elapsed%s.Sync != 0 || fleet.Stats().Replicas == 0 {
			continue
		}
		desired, _ := hpa.Sync(now, fleet.Stats().Replicas, milli(float64(value)), milli(s.Target))
		scale(desired)
	}
	require.Equal(t, []int{0, 1, 2, 3, 6, 8, 7, 6, 0}, replicas)
	st := fleet.Stats()
	require.Less(t, st.LongestWait, 30*time.Second, "22 s of them are a cold start")
	require.Equal(t, st.Arrived, st.Served)
	require.Greater(t, st.Served, 1500)
}
