package inference

import (
	"context"
	"math/rand/v2"
	"time"
)

// Load is an open loop: requests come when they come, whatever became of those
// before.
type Load struct {
	PerSecond float64
	// Service is the mean service time. It is exponential with Jitter, else always
	// the same; and so are the gaps between requests.
	Service time.Duration
	Jitter  bool
	Seed    uint64
}

// Run submits the load until ctx is done.
func (l Load) Run(ctx context.Context, f *Fleet) {
	gaps, services := rand.New(rand.NewPCG(l.Seed, 1)), rand.New(rand.NewPCG(l.Seed, 2))
	draw := func(r *rand.Rand) float64 {
		if !l.Jitter {
			return 1
		}
		return r.ExpFloat64()
	}
	for next := time.Now(); ; {
		// What comes too late for its moment, on a busy machine, still comes.
		next = next.Add(time.Duration(draw(gaps) / l.PerSecond * float64(time.Second)))
		if !sleepUntil(ctx, next) {
			return
		}
		f.Submit(&Request{Service: time.Duration(draw(services) * float64(l.Service))})
	}
}

func sleepUntil(ctx context.Context, at time.Time) bool {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// Burst is n requests, or streaming sessions, that last until they are finished.
func Burst(n int, stream bool) []*Request {
	all := make([]*Request, n)
	for i := range all {
		all[i] = &Request{Service: Endless, Stream: stream}
	}
	return all
}
