package explain

import (
	"math"
	"strconv"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource"
	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	"github.com/inference-scaler/inference-scaler/scaler/decision"
	"github.com/inference-scaler/inference-scaler/scaler/evidence"
	"github.com/inference-scaler/inference-scaler/scaler/trigger"
)

// Subject is a trigger with its last decision.
type Subject struct {
	Namespace, ScaledObject string
	Label                   string // distinguishes the triggers of a ScaledObject
	Trigger                 *trigger.Trigger
	Decision                *decision.Decision // the last one; nil if there is none
	Err                     error              // why there is no newer one
	Workload                *cluster.Workload  // nil without Kubernetes
	Signals                 []evidence.Signal
}

// Of explains the last decision of a trigger.
func Of(s Subject, now time.Time) Explanation {
	e := Explanation{
		Namespace:    s.Namespace,
		ScaledObject: s.ScaledObject,
		Trigger:      s.Label,
		Engine:       s.Trigger.Engine,
		Target:       s.Trigger.Target,
	}
	if s.Err != nil {
		e.Error = s.Err.Error()
	}
	d := s.Decision
	if d == nil {
		return e
	}
	e.Workload = workloadOf(s)
	e.DecidedAt = d.At
	e.AgeSeconds = now.Sub(d.At).Seconds()
	e.Value, e.Replicas = finite(d.Value), &d.Replicas
	e.Demand, e.InFlight = finite(d.Demand), finite(d.InFlight)
	e.DemandReplicas, e.Capacity = &d.DemandReplicas, capacityOf(d)
	e.Active, e.ActiveWhy = d.Active, d.ActiveWhy
	e.Queries = queriesOf(s.Signals)
	for _, step := range d.Steps {
		e.Steps = append(e.Steps, Step{Rule: step.Rule, Before: Amount(step.Before), After: Amount(step.After), Why: step.Why})
	}
	e.Pods = podsOf(d, s.Signals)
	for _, p := range e.Pods {
		if p.AgeSeconds != nil && (e.DataSeconds == nil || *p.AgeSeconds > *e.DataSeconds) {
			e.DataSeconds = p.AgeSeconds
		}
	}
	e.Upstream = upstreamOf(d, s.Signals)
	for _, f := range d.Faults {
		e.Faults = append(e.Faults, f.Text)
	}
	return e
}

// capacityOf returns nil if the capacity rule does not apply.
func capacityOf(d *decision.Decision) *Capacity {
	c := d.Input.Capacity
	switch {
	case !c.Applies:
		return nil
	case c.Err != "":
		return &Capacity{Why: c.Err}
	}
	return &Capacity{Limited: d.Limited, Replicas: &c.Replicas, Why: c.Why, Observed: c.Observed}
}

func workloadOf(s Subject) *Workload {
	if w := s.Workload; w != nil {
		return &Workload{
			Kind: w.Kind, Name: w.Name, Replicas: w.Replicas,
			MinReplicas: w.MinReplicas, MaxReplicas: w.MaxReplicas, Paused: w.Paused, Behavior: w.Behavior,
		}
	}
	return &Workload{Name: "endpoints", Replicas: s.Decision.Input.Replicas}
}

// podsOf lists the pods with their values of each query.
func podsOf(d *decision.Decision, signals []evidence.Signal) []Pod {
	load, inFlight, saturation := valuesOf(signals, evidence.Load, byPod), valuesOf(signals, evidence.InFlight, byPod), valuesOf(signals, evidence.Saturation, byPod)
	all := make([]Pod, 0, len(d.Input.Pods))
	for _, p := range d.Input.Pods {
		all = append(all, Pod{
			Name: p.Name, State: p.State.String(), Ready: p.Ready, Fault: p.Fault, AgeSeconds: ageOf(p),
			Load: load[p.Name], InFlight: inFlight[p.Name], Saturation: saturation[p.Name],
		})
	}
	return all
}

// upstreamOf lists the instances of the upstream.
func upstreamOf(d *decision.Decision, signals []evidence.Signal) []Source {
	demand := valuesOf(signals, evidence.Demand, byInstance)
	var all []Source
	for _, p := range d.Input.Upstream.Sources {
		all = append(all, Source{Name: p.Name, State: p.State.String(), Fault: p.Fault, AgeSeconds: ageOf(p), Demand: demand[p.Name]})
	}
	return all
}

// valuesOf sums the result of a signal's query by pod or by instance.
func valuesOf(signals []evidence.Signal, name string, source func(metricsource.Element) string) map[string]*float64 {
	values := map[string]*float64{}
	for _, s := range signals {
		if s.Name != name {
			continue
		}
		for _, e := range s.Result.Elements {
			of := source(e)
			if of == "" {
				continue
			}
			v := e.Value
			if values[of] != nil {
				v += *values[of]
			}
			values[of] = finite(v)
		}
	}
	return values
}

// ageOf returns the age of the last samples; nil without samples.
func ageOf(p decision.Pod) *float64 {
	if p.State == decision.Answering || p.State == decision.Idle || p.Age > 0 {
		return finite(p.Age.Seconds())
	}
	return nil
}

func queriesOf(signals []evidence.Signal) []Query {
	var all []Query
	for _, s := range signals {
		q := Query{Signal: s.Name, PromQL: s.PromQL, Elements: []Element{}, Warnings: s.Result.Warnings, Error: s.Err}
		for _, e := range s.Result.Elements {
			q.Elements = append(q.Elements, Element{Labels: e.Labels, Value: strconv.FormatFloat(e.Value, 'g', -1, 64)})
		}
		all = append(all, q)
	}
	return all
}

// finite returns nil for NaN and infinity, which JSON cannot express.
func finite(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

func byPod(e metricsource.Element) string      { return e.Pod }
func byInstance(e metricsource.Element) string { return e.Instance }
