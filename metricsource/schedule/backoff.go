package schedule

import (
	"math/rand/v2"
	"time"
)

// MaxBackOff is the longest pause before what fails is tried again (or its
// interval, where that is longer): what has healed is soon known.
const MaxBackOff = 5 * time.Second

// BackOff returns the pause after so many failures in a row: the interval,
// doubled with each failure up to a limit, less up to a fifth so that what failed
// together does not return together.
func BackOff(interval time.Duration, failures int) time.Duration {
	if failures <= 1 {
		return interval
	}
	pause := min(interval<<min(failures-1, 16), max(interval, MaxBackOff))
	return pause - time.Duration(rand.Int64N(int64(pause/5)+1))
}
