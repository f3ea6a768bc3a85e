package schedule

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBackOff(t *testing.T) {
	for _, interval := range []time.Duration{100 * time.Millisecond, time.Second, 7 * time.Second, time.Minute} {
		require.Equal(t, interval, BackOff(interval, 0))
		require.Equal(t, interval, BackOff(interval, 1))
		for failures := 2; failures < 200; failures++ {
			pause, limit := BackOff(interval, failures), max(interval, MaxBackOff)
			require.LessOrEqual(t, pause, limit)
			require.GreaterOrEqual(t, pause, min(2*interval, limit)*4/5)
		}
	}
}
