package scaler

import (
	"math"
	"strconv"
	"time"

	"github.com/inference-scaler/inference-scaler/scaler/decision"
	"github.com/inference-scaler/inference-scaler/scaler/why"
)

// explain says of the trigger's present answer what led to it.
func (l *live) explain(now time.Time) why.Explanation {
	a := l.answer.Load()
	e := why.Explanation{
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
	e.Active, e.ActiveWhy = d.Active, d.ActiveWhy
	e.Queries = queries(a.signals)
	for _, s := range d.Steps {
		e.Steps = append(e.Steps, why.Step{Rule: s.Rule, Before: why.Amount(s.Before), After: why.Amount(s.After), Why: s.Why})
	}
	e.Pods = podsOf(d, a.signals)
	for _, p := range e.Pods {
		if p.AgeSeconds != nil && (e.DataSeconds == nil || *p.AgeSeconds > *e.DataSeconds) {
			e.DataSeconds = p.AgeSeconds
		}
	}
	for _, f := range d.Faults {
		e.Faults = append(e.Faults, f.Text)
	}
	return e
}

func workloadOf(a *answer) *why.Workload {
	if w := a.workload; w != nil {
		return &why.Workload{
			Kind: w.Kind, Name: w.Name, Replicas: w.Replicas,
			MinReplicas: w.MinReplicas, MaxReplicas: w.MaxReplicas, Paused: w.Paused,
		}
	}
	return &why.Workload{Name: "endpoints", Replicas: a.decision.Input.Replicas}
}

// podsOf lists the pods, each with what the queries say of it.
func podsOf(d *decision.Decision, signals []signal) []why.Pod {
	bySignal := map[string]map[string]*float64{}
	for _, s := range signals {
		values := map[string]*float64{}
		for _, e := range s.result.Elements {
			if e.Pod == "" {
				continue
			}
			v := e.Value
			if values[e.Pod] != nil {
				v += *values[e.Pod]
			}
			values[e.Pod] = known(v)
		}
		bySignal[s.name] = values
	}
	all := make([]why.Pod, 0, len(d.Input.Pods))
	for _, p := range d.Input.Pods {
		pod := why.Pod{
			Name: p.Name, State: p.State.String(), Ready: p.Ready, Fault: p.Fault,
			Load: bySignal["load"][p.Name], InFlight: bySignal["inFlight"][p.Name], Saturation: bySignal["saturation"][p.Name],
		}
		if p.State == decision.Answering || p.State == decision.Idle || p.Age > 0 {
			pod.AgeSeconds = known(p.Age.Seconds())
		}
		all = append(all, pod)
	}
	return all
}

func queries(signals []signal) []why.Query {
	var all []why.Query
	for _, s := range signals {
		q := why.Query{Signal: s.name, PromQL: s.query.String(), Elements: []why.Element{}, Warnings: s.result.Warnings}
		if s.err != nil {
			q.Error = s.err.Error()
		}
		for _, e := range s.result.Elements {
			q.Elements = append(q.Elements, why.Element{Labels: e.Labels, Value: strconv.FormatFloat(e.Value, 'g', -1, 64)})
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
