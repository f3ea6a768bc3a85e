package evidence

import (
	"errors"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource"
	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	"github.com/inference-scaler/inference-scaler/scaler/decision"
	"github.com/inference-scaler/inference-scaler/scaler/trigger"
)

// podsOf are the workload's pods, or the trigger's endpoints, with their states.
func podsOf(t *trigger.Trigger, o Observation, now time.Time) (all []decision.Pod) {
	if t.Load == nil {
		return nil // the leader alone sizes the workload
	}
	statuses := ByTarget(o.Pods.Statuses)
	if len(t.Endpoints) > 0 || o.Workload == nil {
		for _, e := range t.Endpoints {
			all = append(all, Pod(t, e, true, statuses[e], now))
		}
		return all
	}
	for _, p := range o.Workload.Pods {
		if !p.Finished() && !o.Departed[p.UID] {
			all = append(all, PodOf(t, p, statuses[p.Name], now))
		}
	}
	return all
}

// ByTarget returns the statuses by the names of their targets.
func ByTarget(all []metricsource.Status) map[string]metricsource.Status {
	out := make(map[string]metricsource.Status, len(all))
	for _, st := range all {
		out[st.Target] = st
	}
	return out
}

// PodOf is the state of a pod of the workload. A terminating pod gets no more work.
func PodOf(t *trigger.Trigger, p cluster.Pod, st metricsource.Status, now time.Time) decision.Pod {
	out := Pod(t, p.Name, p.Ready && !p.Terminating, st, now)
	_, load := t.Prometheus.Remote(t.Load)
	_, inFlight := t.Prometheus.Remote(t.InFlight)
	if !out.Ready && out.State == decision.Answering && load && inFlight {
		out.State = decision.Starting // the server answered, about no pod in particular
	}
	return out
}

// Ended reports whether a pod's last samples are not worth keeping: it terminates, has
// been tried, and does not answer.
func Ended(t *trigger.Trigger, p cluster.Pod, st metricsource.Status, now time.Time) bool {
	return p.Terminating && !st.Tried.IsZero() && !Pod(t, p.Name, false, st, now).State.Responds()
}

// Pod is the state of a target: how far its samples can be believed. The zero Status is
// that of a target without a reading yet.
func Pod(t *trigger.Trigger, name string, ready bool, st metricsource.Status, now time.Time) decision.Pod {
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
		if !st.Tried.IsZero() && st.Err != nil {
			p.Fault = "ready, and has never answered: " + st.Err.Error()
		}
	case p.Age > t.StaleAfter:
		p.State, p.Fault = decision.Silent, "does not answer: its reading is late"
		if st.Err != nil {
			p.Fault = "does not answer: " + st.Err.Error()
		}
	case st.Idle:
		p.State = decision.Idle
	default:
		p.State = decision.Answering
	}
	return p
}

// upstreamOf is the upstream without the results of its queries.
func upstreamOf(t *trigger.Trigger, u Upstream, now time.Time) decision.Upstream {
	if u.Window == nil {
		return decision.Upstream{}
	}
	in := decision.Upstream{InFlight: t.Upstream.InFlight}
	if u.Err != nil {
		in.Err = u.Err.Error()
	}
	for _, st := range u.Statuses {
		in.Sources = append(in.Sources, Pod(t, st.Target, true, st, now))
	}
	for _, st := range u.Reports {
		in.Sources = append(in.Sources, reporter(st, now))
	}
	in.Configured = u.Read || len(in.Sources) > 0
	return in
}

// reporter is a source whose report has not expired: until then it is never late.
func reporter(st metricsource.Status, now time.Time) decision.Pod {
	p := decision.Pod{Name: st.Target, Ready: true, State: decision.Answering, Age: now.Sub(st.Tried)}
	if st.Err != nil {
		p.State, p.Fault = decision.Faulty, st.Err.Error()
	}
	return p
}
