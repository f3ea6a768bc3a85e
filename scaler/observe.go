package scaler

import (
	"context"
	"errors"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource"
	"github.com/inference-scaler/inference-scaler/scaler/decision"
)

// input gathers what a decision looks at, and leaves the queries' results in the
// answer for its explanation.
func (l *live) input(ctx context.Context, a *answer) decision.Input {
	t := l.trigger
	in := l.unread(a.at)
	a.signals = nil
	in.Upstream = l.upstream.input(ctx, l, a)
	// Where nothing runs the pods' queries can find nothing, and somebody may be waiting.
	nothing := l.workload != nil && in.Replicas == 0 && len(in.Pods) == 0
	for _, s := range []struct {
		name  string
		query *metricsource.Query
		to    *decision.Reading
	}{
		{"load", t.Load, &in.Load},
		{"inFlight", t.InFlight, &in.InFlight},
		{"saturation", t.Saturation, &in.Saturation},
		{"latency", t.Latency, &in.Latency},
	} {
		if s.query == nil {
			continue
		}
		if nothing {
			s.to.Asked = true
			continue
		}
		samples, elsewhere := l.upstream.besides(l.window, s.query)
		result, err := s.query.Eval(ctx, samples, a.at)
		a.signals = append(a.signals, signal{s.name, s.query, result, err})
		*s.to = reading(result, err, podOf)
		s.to.Elsewhere = elsewhere
	}
	return in
}

func podOf(e metricsource.Element) string      { return e.Pod }
func instanceOf(e metricsource.Element) string { return e.Instance }

// unread is the input of a decision without what the queries say.
func (l *live) unread(now time.Time) decision.Input {
	t := l.trigger
	in := decision.Input{
		Now: now,
		Policy: decision.Policy{
			Target:           t.Target,
			Activation:       t.Activation,
			SaturationTarget: t.SaturationTarget,
			SaturationAdds:   t.SaturationAdds,
			LatencyTarget:    t.LatencyTarget,
			Hold:             t.Hold,
		},
	}
	if t.Latency != nil {
		in.Policy.LatencyLookback = t.Latency.Lookback()
	}
	in.Filling = now.Sub(l.opened) < t.Want.Lookback()
	in.Pods = l.pods(now)
	in.Upstream = l.upstream.unread(l, now)
	if l.workload != nil {
		in.Replicas = l.workload.Replicas
	} else {
		in.Replicas, in.WakesAtZero = len(t.Endpoints), true
	}
	return in
}

func reading(result metricsource.Result, err error, source func(metricsource.Element) string) decision.Reading {
	r := decision.Reading{Asked: true}
	if err != nil {
		r.Err = err.Error()
		return r
	}
	for _, e := range result.Elements {
		r.Values = append(r.Values, decision.Value{Pod: source(e), Value: e.Value})
	}
	return r
}

// pods says of each pod, or endpoint, how far its samples can be believed. A pod
// that is terminating and does not answer is gone, with its samples.
func (l *live) pods(now time.Time) []decision.Pod {
	statuses := map[string]metricsource.Status{}
	l.tried = true
	for _, st := range l.group.Status() {
		statuses[st.Target] = st
		l.tried = l.tried && !st.Tried.IsZero()
	}
	var all []decision.Pod
	if len(l.trigger.Endpoints) > 0 || l.workload == nil {
		for _, e := range l.trigger.Endpoints {
			all = append(all, l.pod(e, true, statuses[e], now))
		}
		return all
	}
	left := false
	for _, p := range l.workload.Pods {
		if p.Finished() || l.gone[p.UID] {
			continue
		}
		pod := l.pod(p.Name, p.Ready && !p.Terminating, statuses[p.Name], now)
		if tried := !statuses[p.Name].Tried.IsZero(); p.Terminating && tried && !pod.State.Speaks() {
			l.gone[p.UID], left = true, true
			continue
		}
		all = append(all, pod)
	}
	if left {
		l.group.Set(l.targets())
	}
	return all
}

func (l *live) pod(name string, ready bool, st metricsource.Status, now time.Time) decision.Pod {
	p := decision.Pod{Name: name, Ready: ready}
	answered := !st.Answered.IsZero()
	if answered {
		p.Age = now.Sub(st.Answered)
	}
	var none *metricsource.NoSeriesError
	switch {
	case errors.As(st.Err, &none) && (ready || answered):
		p.State, p.Fault = decision.Faulty, none.Error()
	case !answered && !ready:
		p.State = decision.Starting
	case !answered:
		p.State = decision.Unread
		if !st.Tried.IsZero() {
			p.Fault = "ready, and has never answered: " + st.Err.Error()
		}
	case p.Age > l.trigger.StaleAfter:
		p.State, p.Fault = decision.Silent, "does not answer: "+text(st.Err)
	case st.Idle:
		p.State = decision.Idle
	default:
		p.State = decision.Answering
	}
	return p
}

func text(err error) string {
	if err == nil {
		return "its reading is late"
	}
	return err.Error()
}

// settle marks the end of the first pass over the targets, when its answer is there
// to be read.
func (l *live) settle() {
	if l.tried && !l.isSettled() {
		close(l.settled)
	}
}

func (l *live) isSettled() bool {
	select {
	case <-l.settled:
		return true
	default:
		return false
	}
}

// eventEvery is how often the recorder is told of a fault that lasts. Of several
// scalers one writes events, and which one that is may change meanwhile; it does
// not write the same one again too soon.
const eventEvery = time.Minute

// report tells of faults: in the log when they begin, and on the ScaledObject
// for as long as they last.
func (l *live) report(before, now *answer) {
	if now.decision == nil {
		return
	}
	had := map[decision.FaultKind]bool{}
	if before != nil && before.decision != nil {
		for _, f := range before.decision.Faults {
			had[f.Kind] = true
		}
	}
	for _, f := range now.decision.Faults {
		if !had[f.Kind] {
			l.scaler.opts.Logger.Warn("fault", "namespace", l.namespace, "scaledObject", l.name, "trigger", l.label, "kind", string(f.Kind), "fault", f.Text)
		}
		if told, ok := l.told[f.Kind]; l.scaler.opts.Recorder != nil && (!ok || now.at.Sub(told) >= eventEvery) {
			l.told[f.Kind] = now.at
			l.scaler.opts.Recorder.Event(l.namespace, l.name, string(f.Kind), f.Text, true)
		}
	}
}
