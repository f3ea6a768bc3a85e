package sim

import (
	"math/rand/v2"
	"time"
)

// Arrival is one request: its time, and how long its service occupies a batch slot.
type Arrival struct {
	At      time.Time
	Service time.Duration
}

// Arrivals are a fleet's requests. They do not depend on the fleet (an open loop: clients do
// not wait for a response before the next request).
type Arrivals interface {
	// Next returns the requests in the order of time, and false after the last.
	Next() (Arrival, bool)
}

// Phase is a period with one rate of arrivals.
type Phase struct {
	Name      string
	Length    time.Duration
	PerSecond float64
}

// PhaseAt returns the phase at an instant, and its beginning. After the end, it is the last
// phase.
func PhaseAt(phases []Phase, elapsed time.Duration) (p Phase, began time.Duration) {
	for i, p := range phases {
		if elapsed < began+p.Length || i == len(phases)-1 {
			return p, began
		}
		began += p.Length
	}
	return Phase{}, 0
}

// Service is a distribution of service times: a fixed minimum, and an exponential part.
// Recordings are mostly short, and a few are long.
type Service struct {
	Min, Mean time.Duration
}

// Poisson is a Poisson process with the rates of its phases. It is the same for the same
// seed, and ends with the last phase.
type Poisson struct {
	start   time.Time
	phases  []Phase
	service Service
	// Two generators, so that a change of the service times does not change the arrivals.
	gaps, services *rand.Rand

	at, ends time.Duration // of the last arrival, and of phases[0], since start
}

// NewPoisson starts the first phase at start.
func NewPoisson(seed uint64, start time.Time, phases []Phase, service Service) *Poisson {
	p := &Poisson{
		start: start, phases: phases, service: service,
		gaps:     rand.New(rand.NewPCG(seed, 1)),
		services: rand.New(rand.NewPCG(seed, 2)),
	}
	if len(phases) > 0 {
		p.ends = phases[0].Length
	}
	return p
}

// Next implements [Arrivals].
func (p *Poisson) Next() (Arrival, bool) {
	// The gap is drawn in expected requests, and used up at the rate of each phase that it
	// crosses. This is exact at a change of the rate.
	gap := p.gaps.ExpFloat64()
	for len(p.phases) > 0 {
		rate := p.phases[0].PerSecond
		if within := rate * (p.ends - p.at).Seconds(); gap < within {
			p.at += time.Duration(gap / rate * float64(time.Second))
			return Arrival{At: p.start.Add(p.at), Service: p.draw()}, true
		} else {
			gap -= within
		}
		p.at, p.phases = p.ends, p.phases[1:]
		if len(p.phases) > 0 {
			p.ends += p.phases[0].Length
		}
	}
	return Arrival{}, false
}

func (p *Poisson) draw() time.Duration {
	return p.service.Min + time.Duration(p.services.ExpFloat64()*float64(p.service.Mean-p.service.Min))
}
