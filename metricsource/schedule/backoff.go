package schedule

import (
	"math/rand/v2"
	"time"
)

// MaxBackOff limits the pause after a failure, unless the interval is longer. It is short
// so that a recovered target is noticed soon.
const MaxBackOff = 5 * time.Second

// BackOff returns the pause after a number of consecutive failures. The first failure
// leaves the interval unchanged, and each further one doubles it, up to a limit. Jitter
// subtracts up to a fifth, so that items that failed together do not retry together.
func BackOff(interval time.Duration, failures int) time.Duration {
	if failures <= 1 {
		return interval
	}
	pause := min(interval<<min(failures-1, 16), max(interval, MaxBackOff))
	return pause - time.Duration(rand.Int64N(int64(pause/5)+1))
}
