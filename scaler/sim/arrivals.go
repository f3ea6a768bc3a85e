package sim

import (
	"math/rand/v2"
	"time"
)

// Arrival is one request: its arrival time and its service time in a batch slot.
type Arrival struct {
	At      time.Time
	Service time.Duration
}

// Arrivals are a fleet's requests, as an open workload: clients do not wait for a response before
// they send the next request.
type Arrivals interface {
	// Next returns the next request in the order of arrival, or false after the last one.
	Next() (Arrival, bool)
}

// Phase is a period with a constant arrival rate.
type Phase struct {
	Name      string
	Length    time.Duration
	PerSecond float64
}

// PhaseAt returns the phase at an instant and the start of the phase. After the end, it is the
// last phase.
func PhaseAt(phases []Phase, elapsed time.Duration) (p Phase, start time.Duration) {
	for i, p := range phases {
		if elapsed < start+p.Length || i == len(phases)-1 {
			return p, start
		}
		start += p.Length
	}
	return Phase{}, 0
}

// Service is a distribution of service times: a fixed minimum plus an exponential part. Most
// recordings are short, and a few are long.
type Service struct {
	Min, Mean time.Duration
}

// Poisson is a Poisson process with the rates of its phases. It depends only on the seed, and
// ends with the last phase.
type Poisson struct {
	start   time.Time
	phases  []Phase
	service Service
	// Two generators: a change of the service times must not change the arrivals.
	gaps, services *rand.Rand

	last     time.Duration // time of the last arrival, since start
	phaseEnd time.Duration // end of phases[0], since start
}

// NewPoisson returns a process whose first phase begins at start.
func NewPoisson(seed uint64, start time.Time, phases []Phase, service Service) *Poisson {
	p := &Poisson{
		start: start, phases: phases, service: service,
		gaps:     rand.New(rand.NewPCG(seed, 1)),
		services: rand.New(rand.NewPCG(seed, 2)),
	}
	if len(phases) > 0 {
		p.phaseEnd = phases[0].Length
	}
	return p
}

// Next implements [Arrivals].
func (p *Poisson) Next() (Arrival, bool) {
	// The gap is in expected requests, and each phase consumes it at the rate of the phase. This
	// is exact when the rate changes.
	gap := p.gaps.ExpFloat64()
	for len(p.phases) > 0 {
		rate := p.phases[0].PerSecond
		if within := rate * (p.phaseEnd - p.last).Seconds(); gap < within {
			p.last += time.Duration(gap / rate * float64(time.Second))
			return Arrival{At: p.start.Add(p.last), Service: p.draw()}, true
		} else {
			gap -= within
		}
		p.last, p.phases = p.phaseEnd, p.phases[1:]
		if len(p.phases) > 0 {
			p.phaseEnd += p.phases[0].Length
		}
	}
	return Arrival{}, false
}

func (p *Poisson) draw() time.Duration {
	return p.service.Min + time.Duration(p.services.ExpFloat64()*float64(p.service.Mean-p.service.Min))
}
