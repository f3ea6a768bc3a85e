package sim

import (
	"math/rand/v2"
	"time"
)

// Arrival is one request: when it comes, and how long a batch slot takes to
// serve it.
type Arrival struct {
	At      time.Time
	Service time.Duration
}

// Arrivals is where a fleet's work comes from, whatever the fleet does with it
// (an open loop: clients do not wait for one answer before the next request).
type Arrivals interface {
	// Next returns the next request, in the order of time, and false after the last.
	Next() (Arrival, bool)
}

// Phase is a stretch of the story in which requests arrive at one rate.
type Phase struct {
	Name      string
	Length    time.Duration
	PerSecond float64
}

// phaseAt is the phase of an instant of the story, and when it began. After the
// end it is the last one.
func phaseAt(phases []Phase, elapsed time.Duration) (p Phase, began time.Duration) {
	for i, p := range phases {
		if elapsed < began+p.Length || i == len(phases)-1 {
			return p, began
		}
		began += p.Length
	}
	return Phase{}, 0
}

// Service is a distribution of service times: a fixed part, and an exponential
// one of which every request has its own (recordings are mostly short, a few are
// long).
type Service struct {
	Min, Mean time.Duration
}

// Poisson is random traffic at the rates of its phases, the same for the same
// seed. It ends with the last phase.
type Poisson struct {
	start   time.Time
	phases  []Phase
	service Service
	// Two generators, so that a change of the service times leaves the arrivals alone.
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
	// The gap is drawn in expected requests and spent at the rate of each phase
	// it crosses: exact where the rate changes, and no request is thrown away.
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
