package demo

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	"github.com/inference-scaler/inference-scaler/scaler/sim"
)

// The shortest durations that a trigger accepts.
const (
	minInterval   = 100 * time.Millisecond
	minStaleAfter = time.Second
)

// Scenario is the input of a demo. Its durations are simulated time. The scaler and KEDA get
// durations that are divided by Speed.
type Scenario struct {
	Seed  uint64
	Speed float64 // simulated time per real time

	Namespace string
	Nodes     []int // GPUs per node
	Workload        // the main workload; at zero replicas its requests wait in the API tier
	Others    []Workload

	Behavior       *autoscalingv2.HorizontalPodAutoscalerBehavior
	Sync           time.Duration // sync period of the HPA
	Poll, Cooldown time.Duration // KEDA's pollingInterval and cooldownPeriod

	// Metadata of the triggers.
	Interval   time.Duration
	Hold       time.Duration
	StaleAfter time.Duration
}

// Workload is a Deployment with its ScaledObject.
type Workload struct {
	Shape   sim.Shape // its name is the name of both objects
	Phases  []sim.Phase
	Service sim.Service

	Replicas, Min, Max int // initial replicas, and the ScaledObject's bounds
	// Target is the load per replica. With Follow, the number of replicas is instead that of the
	// leader divided by Ratio.
	Target float64
	Follow string
	Ratio  float64
}

func phase(name string, length time.Duration, perSecond float64) sim.Phase {
	return sim.Phase{Name: name, Length: length, PerSecond: perSecond}
}

// DefaultScenario is a Lightning ASR fleet with the autoscaling of its guide. It scales from zero
// replicas through a burst and back to zero, in 10 minutes of simulated time or 40 s of real
// time. A second model competes for the 8 GPUs. An API tier follows with one pod for two replicas.
func DefaultScenario() Scenario {
	return Scenario{
		Seed: 1, Speed: 15,
		Namespace: "speech",
		Nodes:     []int{4, 4},
		Workload: Workload{
			Phases: []sim.Phase{
				phase("idle", 15*time.Second, 0),
				phase("morning", 60*time.Second, 0.5),
				phase("burst", 40*time.Second, 11),
				phase("plateau", 100*time.Second, 8),
				phase("decline", 30*time.Second, 4),
				phase("calm", 215*time.Second, 2),
				phase("night", 140*time.Second, 0),
			},
			Service:  sim.Service{Min: 500 * time.Millisecond, Mean: 2500 * time.Millisecond},
			Shape:    sim.Shape{Name: "lightning-asr", Slots: 12, GPUs: 1, Start: 2 * time.Second, ModelLoad: 20 * time.Second},
			Replicas: 0, Min: 0, Max: 12,
			Target: 5,
		},
		Others: []Workload{
			{
				Phases: []sim.Phase{
					phase("", 85*time.Second, 0.3),
					phase("", 120*time.Second, 5),
					phase("", 395*time.Second, 0.3),
				},
				Service:  sim.Service{Min: 500 * time.Millisecond, Mean: 2500 * time.Millisecond},
				Shape:    sim.Shape{Name: "lightning-asr-large", Slots: 12, GPUs: 2, Start: 2 * time.Second, ModelLoad: 30 * time.Second},
				Replicas: 1, Min: 1, Max: 4,
				Target: 5,
			},
			{
				Shape:    sim.Shape{Name: apiTierService, Start: time.Second, ModelLoad: time.Second},
				Replicas: 1, Min: 1, Max: 10,
				Follow: "lightning-asr", Ratio: 2,
			},
		},
		Behavior: guideBehavior(),
		Sync:     15 * time.Second,
		Poll:     30 * time.Second, Cooldown: time.Minute,
		Interval: time.Second, Hold: 20 * time.Second, StaleAfter: 5 * time.Second,
	}
}

// guideBehavior is the behavior of the Lightning ASR self-hosting guide. It scales up at once, by
// 100 % or 2 pods per 15 s, whichever is more. It scales down after 300 s, by 50 % or one pod per
// 60 s, whichever is less. The tolerance of 0 is that of the chart and the examples.
func guideBehavior() *autoscalingv2.HorizontalPodAutoscalerBehavior {
	most, least := autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect
	up, down, zero := int32(0), int32(300), resource.MustParse("0")
	return &autoscalingv2.HorizontalPodAutoscalerBehavior{
		ScaleUp: &autoscalingv2.HPAScalingRules{
			StabilizationWindowSeconds: &up, SelectPolicy: &most, Tolerance: &zero,
			Policies: []autoscalingv2.HPAScalingPolicy{
				{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15},
				{Type: autoscalingv2.PodsScalingPolicy, Value: 2, PeriodSeconds: 15},
			},
		},
		ScaleDown: &autoscalingv2.HPAScalingRules{
			StabilizationWindowSeconds: &down, SelectPolicy: &least, Tolerance: &zero,
			Policies: []autoscalingv2.HPAScalingPolicy{
				{Type: autoscalingv2.PercentScalingPolicy, Value: 50, PeriodSeconds: 60},
				{Type: autoscalingv2.PodsScalingPolicy, Value: 1, PeriodSeconds: 60},
			},
		},
	}
}

// Validate returns all errors of the scenario.
func (s Scenario) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(s.Speed >= 0.1 && s.Speed <= 1000, "speed: %v; wanted: a number from 0.1 to 1000", s.Speed)
	check(s.Duration() > 0, "phases: a total length of 0; wanted: a length above 0")
	for _, w := range s.workloads() {
		check(w.Min >= 0 && w.Max >= 1 && w.Min <= w.Max, "%s: minimum of %d and maximum of %d replicas; wanted: a minimum of at least 0, and a maximum of at least 1 and at least the minimum", w.Shape.Name, w.Min, w.Max)
		check(w.Replicas >= w.Min && w.Replicas <= w.Max, "%s: replicas: %d; wanted: a number from %d to %d", w.Shape.Name, w.Replicas, w.Min, w.Max)
		check(w.Shape.Slots >= 1 || w.Follow != "", "%s: slots: %d; wanted: at least 1", w.Shape.Name, w.Shape.Slots)
		check(w.Target >= 0.001 || w.Follow != "", "%s: target: %v; wanted: at least 0.001", w.Shape.Name, w.Target)
	}
	check(s.Sync > 0 && s.Poll > 0, "sync: %v, poll: %v; wanted: durations above 0", s.Sync, s.Poll)
	return errors.Join(errs...)
}

// workloads returns all workloads, the main one first.
func (s Scenario) workloads() []Workload { return append([]Workload{s.Workload}, s.Others...) }

// Duration is the length of the scenario in simulated time.
func (s Scenario) Duration() time.Duration {
	var d time.Duration
	for _, p := range s.Phases {
		d += p.Length
	}
	return d
}

// Real converts simulated time to real time.
func (s Scenario) Real(d time.Duration) time.Duration {
	return time.Duration(float64(d) / s.Speed)
}

// RealInterval is the trigger's interval in real time.
func (s Scenario) RealInterval() time.Duration {
	return max(minInterval, s.Real(s.Interval)).Round(time.Millisecond)
}

// Metadata returns the metadata of the workload's trigger.
func (s Scenario) Metadata(w Workload, scalerAddress string) map[string]string {
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
		// The interval has a lower limit, and a pod is stale after at least five scrapes.
		"staleAfter": max(minStaleAfter, 5*interval, s.Real(s.StaleAfter)).Round(time.Millisecond).String(),
	}
	if w.Min == 0 {
		// At zero replicas, all demand waits in the API tier.
		m["upstream"], m["upstreamQuery"] = "service/"+apiTierService+":http", "sum(demand_queued_requests)"
	}
	return m
}

// object returns the workload's ScaledObject.
func (s Scenario) object(w Workload, scalerAddress string) cluster.ScaledObject {
	return cluster.ScaledObject{
		Namespace: s.Namespace, Name: w.Shape.Name,
		Triggers: []cluster.ScaledObjectTrigger{{Push: true, Metadata: s.Metadata(w, scalerAddress)}},
	}
}

// rise returns the time of the first rise of the arrival rate, or false without one.
func (s Scenario) rise() (at time.Duration, ok bool) {
	for i, p := range s.Phases {
		if i > 0 && s.Phases[i-1].PerSecond > 0 && p.PerSecond > s.Phases[i-1].PerSecond {
			return at, true
		}
		at += p.Length
	}
	return 0, false
}
