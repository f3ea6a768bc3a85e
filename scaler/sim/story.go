package sim

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource"
)

// The shortest durations that a trigger may ask for, however fast the story.
const (
	minInterval   = 100 * time.Millisecond
	minStaleAfter = time.Second
)

// Story is everything a demonstration is made of. Its durations are story time;
// what is handed to the scaler and to KEDA is divided by Speed.
type Story struct {
	Seed  uint64
	Speed float64 // story time per real time; 1 is real time

	Namespace string
	Phases    []Phase
	Service   Service
	Shape     Shape // its Name is the Deployment's and the ScaledObject's

	Replicas, Min, Max int // at the beginning, and the ScaledObject's bounds
	Behavior           Behavior
	Sync               time.Duration // between two syncs of the HPA
	Poll, Cooldown     time.Duration // KEDA's pollingInterval and cooldownPeriod

	// The trigger: load per replica, scrape interval, how long a peak is held,
	// and after what silence a replica is unknown.
	Target     float64
	Interval   time.Duration
	Hold       time.Duration
	StaleAfter time.Duration
}

// DefaultStory is a Lightning ASR fleet with the guide's autoscaling: asleep, woken
// by the first request, in a burst, and asleep again when the last is done: 10
// minutes, 40 s to watch.
func DefaultStory() Story {
	return Story{
		Seed: 1, Speed: 15,
		Namespace: "speech",
		Phases: []Phase{
			{"asleep", 15 * time.Second, 0},
			{"morning", 60 * time.Second, 0.5},
			{"burst", 40 * time.Second, 11},
			{"plateau", 100 * time.Second, 8},
			{"decline", 30 * time.Second, 4},
			{"calm", 215 * time.Second, 2},
			{"night", 140 * time.Second, 0},
		},
		Service:  Service{Min: 500 * time.Millisecond, Mean: 2500 * time.Millisecond},
		Shape:    Shape{Name: "lightning-asr", Slots: 12, GPUs: 1, Start: 2 * time.Second, Load: 20 * time.Second},
		Replicas: 0, Min: 0, Max: 12,
		// No tolerance, as our chart and examples set it.
		Behavior: GuideBehavior(0),
		Sync:     15 * time.Second,
		Poll:     30 * time.Second, Cooldown: time.Minute,
		Target:   5,
		Interval: time.Second, Hold: 20 * time.Second, StaleAfter: 5 * time.Second,
	}
}

// Validate reports everything that keeps the story from being told.
func (s Story) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(s.Speed >= 0.1 && s.Speed <= 1000, "speed %v: must be from 0.1 to 1000", s.Speed)
	check(s.Duration() > 0, "phases: must last some time")
	check(s.Min >= 0 && s.Max >= 1 && s.Min <= s.Max, "replicas %d to %d: at least 0 to 1, and the first not above the second", s.Min, s.Max)
	check(s.Replicas >= s.Min && s.Replicas <= s.Max, "replicas %d: must be from %d to %d", s.Replicas, s.Min, s.Max)
	check(s.Shape.Slots >= 1, "slots %d: must be at least 1", s.Shape.Slots)
	check(s.Target >= 0.001, "target %v: must be at least 0.001", s.Target)
	check(s.Sync > 0 && s.Poll > 0, "sync %v and poll %v: must be above 0", s.Sync, s.Poll)
	return errors.Join(errs...)
}

// Duration is how long the story is, in story time.
func (s Story) Duration() time.Duration {
	var d time.Duration
	for _, p := range s.Phases {
		d += p.Length
	}
	return d
}

// Real is a duration of the story in real time.
func (s Story) Real(d time.Duration) time.Duration {
	return time.Duration(float64(d) / s.Speed)
}

// RealInterval is the scrape interval that the trigger asks for, in real time.
func (s Story) RealInterval() time.Duration {
	return max(minInterval, s.Real(s.Interval)).Round(time.Millisecond)
}

// Metadata is the trigger's, as it would stand in the ScaledObject.
func (s Story) Metadata(scalerAddress string) map[string]string {
	interval := s.RealInterval()
	return map[string]string{
		"scalerAddress": scalerAddress,
		"engine":        "lightning-asr",
		"target":        strconv.FormatFloat(s.Target, 'f', -1, 64),
		"port":          "9090",
		// What waits in the API server is all there is to see while nothing runs.
		"upstream":      "service/" + frontService + ":http",
		"upstreamQuery": "sum(demand_queued_requests)",
		"interval":      interval.String(),
		"hold":          s.Real(s.Hold).Round(time.Millisecond).String(),
		// Silence counts in scrapes as well, and those cannot become as fast.
		"staleAfter": max(minStaleAfter, 5*interval, s.Real(s.StaleAfter)).Round(time.Millisecond).String(),
	}
}

// object is the story's ScaledObject.
func (s Story) object(scalerAddress string) metricsource.ScaledObject {
	return metricsource.ScaledObject{
		Namespace: s.Namespace, Name: s.Shape.Name,
		Triggers: []metricsource.ScaledObjectTrigger{{Push: true, Metadata: s.Metadata(scalerAddress)}},
	}
}

// rise is when the arrivals first become more frequent than they are, and whether they do.
func (s Story) rise() (at time.Duration, ok bool) {
	for i, p := range s.Phases {
		if i > 0 && s.Phases[i-1].PerSecond > 0 && p.PerSecond > s.Phases[i-1].PerSecond {
			return at, true
		}
		at += p.Length
	}
	return 0, false
}
