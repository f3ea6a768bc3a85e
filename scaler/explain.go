package scaler

import (
	"math"
	"strconv"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource"
	"github.com/inference-scaler/inference-scaler/scaler/decision"
	"github.com/inference-scaler/inference-scaler/scaler/explain"
)

// explain says of the trigger's present answer what led to it.
func (l *live) explain(now time.Time) explain.Explanation {
	a := l.answer.Load()
	e := explain.Explanation{
		Namespace:    l.namespace,
		ScaledObject: l.name,
		Trigger:      l.label,
		Engine:       l.trigger.Engine,
		Target:       l.trigger.Target,
	}
	if a.err != nil {
		e.Error = a.err.Error()
	}
	if a.decision == nil {
		return e
	}
	d := a.decision
	e.Workload = workloadOf(a)
	e.DecidedAt = d.At
	e.AgeSeconds = now.Sub(d.At).Seconds()
	e.Value, e.Replicas = known(d.Value), &d.Replicas
	e.Demand, e.InFlight = known(d.Demand), known(d.InFlight)
	e.DemandReplicas, e.Capacity = &d.Demanded, capacityOf(d)
	e.Active, e.ActiveWhy = d.Active, d.ActiveWhy
	e.Queries = queries(a.signals)
	for _, s := range d.Steps {
		e.Steps = append(e.Steps, explain.Step{Rule: s.Rule, Before: explain.Amount(s.Before), After: explain.Amount(s.After), Why: s.Why})
	}
	e.Pods = podsOf(d, a.signals)
	for _, p := range e.Pods {
		if p.AgeSeconds != nil && (e.DataSeconds == nil || *p.AgeSeconds > *e.DataSeconds) {
			e.DataSeconds = p.AgeSeconds
		}
	}
	e.Upstream = upstreamOf(d, a.signals)
	for _, f := range d.Faults {
		e.Faults = append(e.Faults, f.Text)
	}
	return e
}

// capacityOf is nil where nobody looked.
func capacityOf(d *decision.Decision) *explain.Capacity {
	c := d.Input.Capacity
	switch {
	case !c.Asked:
		return nil
	case c.Err != "":
		return &explain.Capacity{Why: c.Err}
	}
	return &explain.Capacity{Limited: d.Limited, Replicas: &c.Replicas, Why: c.Why, Observed: c.Observed}
}

func workloadOf(a *answer) *explain.Workload {
	if w := a.workload; w != nil {
		return &explain.Workload{
			Kind: w.Kind, Name: w.Name, Replicas: w.Replicas,
			MinReplicas: w.MinReplicas, MaxReplicas: w.MaxReplicas, Paused: w.Paused,
		}
	}
	return &explain.Workload{Name: "endpoints", Replicas: a.decision.Input.Replicas}
}

// podsOf lists the pods, each with what the queries say of it.
func podsOf(d *decision.Decision, signals []signal) []explain.Pod {
	load, inFlight, saturation := valuesOf(signals, "load", podOf), valuesOf(signals, "inFlight", podOf), valuesOf(signals, "saturation", podOf)
	all := make([]explain.Pod, 0, len(d.Input.Pods))
	for _, p := range d.Input.Pods {
		all = append(all, explain.Pod{
			Name: p.Name, State: p.State.String(), Ready: p.Ready, Fault: p.Fault, AgeSeconds: ageOf(p),
			Load: load[p.Name], InFlight: inFlight[p.Name], Saturation: saturation[p.Name],
		})
	}
	return all
}

// upstreamOf lists the instances of the upstream.
func upstreamOf(d *decision.Decision, signals []signal) []explain.Source {
	demand := valuesOf(signals, "upstream", instanceOf)
	var all []explain.Source
	for _, p := range d.Input.Upstream.Sources {
		all = append(all, explain.Source{Name: p.Name, State: p.State.String(), Fault: p.Fault, AgeSeconds: ageOf(p), Demand: demand[p.Name]})
	}
	return all
}

// valuesOf sums what a signal's query yields of each pod, or instance.
func valuesOf(signals []signal, name string, source func(metricsource.Element) string) map[string]*float64 {
	values := map[string]*float64{}
	for _, s := range signals {
		if s.name != name {
			continue
		}
		for _, e := range s.result.Elements {
			of := source(e)
			if of == "" {
				continue
			}
			v := e.Value
			if values[of] != nil {
				v += *values[of]
			}
			values[of] = known(v)
		}
	}
	return values
}

// ageOf is that of the last samples, nil where there are none.
func ageOf(p decision.Pod) *float64 {
	if p.State == decision.Answering || p.State == decision.Idle || p.Age > 0 {
		return known(p.Age.Seconds())
	}
	return nil
}

func queries(signals []signal) []explain.Query {
	var all []explain.Query
	for _, s := range signals {
		q := explain.Query{Signal: s.name, PromQL: s.query.String(), Elements: []explain.Element{}, Warnings: s.result.Warnings, Error: s.err}
		for _, e := range s.result.Elements {
			q.Elements = append(q.Elements, explain.Element{Labels: e.Labels, Value: strconv.FormatFloat(e.Value, 'g', -1, 64)})
		}
		all = append(all, q)
	}
	return all
}

// known returns a number that is one: JSON has no word for the others.
func known(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}
