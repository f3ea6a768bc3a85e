package sim

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
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
	Nodes     []int // the GPUs of each
	Workload        // the story's own, which may sleep: the API server holds its work then
	Others    []Workload

	Behavior       Behavior
	Sync           time.Duration // between two syncs of the HPA
	Poll, Cooldown time.Duration // KEDA's pollingInterval and cooldownPeriod

	// The triggers: scrape interval, how long a peak is held, and after what silence a
	// replica is unknown.
	Interval   time.Duration
	Hold       time.Duration
	StaleAfter time.Duration
}

// Workload is a Deployment with its ScaledObject.
type Workload struct {
	Shape   Shape // its Name is theirs
	Phases  []Phase
	Service Service

	Replicas, Min, Max int // at the beginning, and the ScaledObject's bounds
	// Target is the load per replica; or else, with Follow, Ratio how many replicas of
	// the workload of that name one of this serves.
	Target float64
	Follow string
	Ratio  float64
}

// DefaultStory is a Lightning ASR fleet with the guide's autoscaling: asleep, woken
// by the first request, in a burst, and asleep again when the last is done: 10
// minutes, 40 s to watch. A second model competes with it for 8 GPUs, and an API tier
// follows it, one pod for two.
func DefaultStory() Story {
	return Story{
		Seed: 1, Speed: 15,
		Namespace: "speech",
		Nodes:     []int{4, 4},
		Workload: Workload{
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
			Target: 5,
		},
		Others: []Workload{
			{
				Phases: []Phase{
					{"", 85 * time.Second, 0.3},
					{"", 120 * time.Second, 5},
					{"", 395 * time.Second, 0.3},
				},
				Service:  Service{Min: 500 * time.Millisecond, Mean: 2500 * time.Millisecond},
				Shape:    Shape{Name: "lightning-asr-large", Slots: 12, GPUs: 2, Start: 2 * time.Second, Load: 30 * time.Second},
				Replicas: 1, Min: 1, Max: 4,
				Target: 5,
			},
			{
				Shape:    Shape{Name: frontService, Start: time.Second, Load: time.Second},
				Replicas: 1, Min: 1, Max: 10,
				Follow: "lightning-asr", Ratio: 2,
			},
		},
		// No tolerance, as our chart and examples set it.
		Behavior: GuideBehavior(0),
		Sync:     15 * time.Second,
		Poll:     30 * time.Second, Cooldown: time.Minute,
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
	for _, w := range s.workloads() {
		check(w.Min >= 0 && w.Max >= 1 && w.Min <= w.Max, "%s: replicas %d to %d: at least 0 to 1, and the first not above the second", w.Shape.Name, w.Min, w.Max)
		check(w.Replicas >= w.Min && w.Replicas <= w.Max, "%s: replicas %d: must be from %d to %d", w.Shape.Name, w.Replicas, w.Min, w.Max)
		check(w.Shape.Slots >= 1 || w.Follow != "", "%s: slots %d: must be at least 1", w.Shape.Name, w.Shape.Slots)
		check(w.Target >= 0.001 || w.Follow != "", "%s: target %v: must be at least 0.001", w.Shape.Name, w.Target)
	}
	check(s.Sync > 0 && s.Poll > 0, "sync %v and poll %v: must be above 0", s.Sync, s.Poll)
	return errors.Join(errs...)
}

// workloads are all of the story, its own first.
func (s Story) workloads() []Workload { return append([]Workload{s.Workload}, s.Others...) }

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

// Metadata is a trigger's, as it would stand in the workload's ScaledObject.
func (s Story) Metadata(w Workload, scalerAddress string) map[string]string {
	if w.Follow != "" {
		return map[string]string{"scalerAddress": scalerAddress, "follow": w.Follow, "ratio": number(w.Ratio)}
	}
	interval := s.RealInterval()
	m := map[string]string{
		"scalerAddress": scalerAddress,
		"engine":        "lightning-asr",
		"target":        strconv.FormatFloat(w.Target, 'f', -1, 64),
		"port":          "9090",
		"interval":      interval.String(),
		"hold":          s.Real(s.Hold).Round(time.Millisecond).String(),
		// Silence counts in scrapes as well, and those cannot become as fast.
		"staleAfter": max(minStaleAfter, 5*interval, s.Real(s.StaleAfter)).Round(time.Millisecond).String(),
	}
	if w.Min == 0 {
		// What waits in the API server is all there is to see while nothing runs.
		m["upstream"], m["upstreamQuery"] = "service/"+frontService+":http", "sum(demand_queued_requests)"
	}
	return m
}

// object is the workload's ScaledObject.
func (s Story) object(w Workload, scalerAddress string) cluster.ScaledObject {
	return cluster.ScaledObject{
		Namespace: s.Namespace, Name: w.Shape.Name,
		Triggers: []cluster.ScaledObjectTrigger{{Push: true, Metadata: s.Metadata(w, scalerAddress)}},
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
