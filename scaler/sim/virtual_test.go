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
// it scales up in steps, reaches neither the maximum nor an absurd wait, and
// there is still time to see the guide's slow way down.
func TestDefaultStoryInVirtualTime(t *testing.T) {
	s := DefaultStory()
	require.NoError(t, s.Validate())
	require.LessOrEqual(t, s.Real(s.Duration()), 45*time.Second)

	fleet := NewFleet(zero, s.Replicas, s.Shape, NewPoisson(s.Seed, zero, s.Phases, s.Service))
	hpa := &HPA{Behavior: s.Behavior, Min: s.Min, Max: s.Max}
	scaler := hindsight{hold: s.Hold}
	replicas := []int{s.Replicas}
	for elapsed := time.Duration(0); elapsed <= s.Duration(); elapsed += s.Interval {
		now := zero.Add(elapsed)
		fleet.Advance(now)
		value := scaler.value(now, fleet.Stats().Load())
		if elapsed%s.Sync != 0 {
			continue
		}
		desired, _ := hpa.Sync(now, fleet.Stats().Replicas, milli(float64(value)), milli(s.Target))
		fleet.Scale(desired)
		if desired != replicas[len(replicas)-1] {
			replicas = append(replicas, desired)
		}
	}
	require.Equal(t, []int{2, 4, 8, 10, 9, 8, 7, 6}, replicas)
	st := fleet.Stats()
	require.Less(t, st.LongestWait, 10*time.Second)
	require.Equal(t, st.Arrived, st.Served+st.Load())
	require.Greater(t, st.Served, 2000)
}
