package scaler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource"
	"github.com/inference-scaler/inference-scaler/scaler/decision"
)

// input gathers what a decision looks at, and leaves the queries' results in the
// answer for its explanation.
func (l *live) input(ctx context.Context, a *answer) decision.Input {
	in := l.unread(a.at)
	a.signals = nil
	in.Upstream = l.upstream.input(ctx, l, a)
	// Where nothing runs the pods' queries can find nothing, and somebody may be waiting.
	nothing := l.workload != nil && in.Replicas == 0 && len(in.Pods) == 0
	for _, q := range l.queries() {
		to := q.reading(&in)
		if nothing && !l.trigger.Prometheus.Independent(q.query) {
			to.Asked = true
			continue
		}
		var result metricsource.Result
		result, *to = l.source.ask(ctx, q.signal, q.query, a.at)
		a.signals = append(a.signals, signal{q.signal, q.query, result, to.Err})
	}
	return in
}

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
	in.Filling = t.Prometheus == nil && now.Sub(l.opened) < t.Want.Lookback()
	in.Pods, l.tried = l.source.pods(now)
	in.Upstream = l.upstream.unread(l, now)
	in.Leader = l.leaderOf()
	in.Capacity = l.scaler.rooms.of(l.workload, t.Capacity)
	if l.workload != nil {
		in.Replicas = l.workload.Replicas
	} else {
		in.Replicas = len(t.Endpoints)
	}
	return in
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
	l.reportCapacity(now)
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

// toldCapacity is what was last told of the room that a workload has.
type toldCapacity struct {
	limited  bool
	replicas int
	at       time.Time
}

// reportCapacity tells on the ScaledObject that there is room for fewer replicas than
// are asked for, when that begins, when it is another number, and when it ends; not
// more than once in eventEvery, as in a crowded cluster the number changes all the time.
func (l *live) reportCapacity(now *answer) {
	limited, c, told := now.decision.Limited, now.decision.Input.Capacity, l.toldCapacity
	if limited == told.limited && (!limited || c.Replicas == told.replicas) || !told.at.IsZero() && now.at.Sub(told.at) < eventEvery {
		return
	}
	l.toldCapacity = toldCapacity{limited, c.Replicas, now.at}
	reason, note := "CapacityLimited", fmt.Sprintf("limited to %d replicas: %s", c.Replicas, c.Why)
	if !limited {
		reason, note = "CapacityAvailable", "no longer limited by capacity"
	}
	l.scaler.opts.Logger.Info(note, "namespace", l.namespace, "scaledObject", l.name, "trigger", l.label, "reason", reason)
	if l.scaler.opts.Recorder != nil {
		l.scaler.opts.Recorder.Event(l.namespace, l.name, reason, note, limited)
	}
}
