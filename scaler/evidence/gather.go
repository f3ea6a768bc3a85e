package evidence

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/prometheus/storage"

	"github.com/inference-scaler/inference-scaler/metricsource"
	"github.com/inference-scaler/inference-scaler/scaler/decision"
	"github.com/inference-scaler/inference-scaler/scaler/trigger"
)

// The names of the signals, as explanations show them.
const (
	Load       = "load"
	InFlight   = "inFlight"
	Saturation = "saturation"
	Latency    = "latency"
	Demand     = "upstream"
	Arrivals   = "arrivals"
)

// Gather returns the input of a decision, and the results of the queries it is made of.
// The context bounds the queries alone. results remembers what need not be asked again.
func Gather(ctx context.Context, t *trigger.Trigger, o Observation, results *Results, now time.Time) (decision.Input, []Signal) {
	g := &gathering{trigger: t, observed: o, results: results, in: Known(t, o, now)}
	if in := &g.in.Upstream; in.Configured {
		in.Demand = g.upstream(ctx, Demand, t.Upstream.Demand)
		in.Arrivals = g.upstream(ctx, Arrivals, t.Upstream.Arrivals)
	}
	g.in.Load = g.pods(ctx, Load, t.Load)
	g.in.InFlight = g.pods(ctx, InFlight, t.InFlight)
	g.in.Saturation = g.pods(ctx, Saturation, t.Saturation)
	g.in.Latency = g.pods(ctx, Latency, t.Latency)
	return g.in, g.signals
}

// gathering is an input in the making.
type gathering struct {
	trigger  *trigger.Trigger
	observed Observation
	results  *Results
	in       decision.Input
	signals  []Signal
}

// Known is the input without the results of the queries: what is known of a trigger
// before anything has been read, too.
func Known(t *trigger.Trigger, o Observation, now time.Time) decision.Input {
	in := decision.Input{
		Now: now,
		Policy: decision.Policy{
			Target:           t.Target,
			Activation:       t.Activation,
			SaturationTarget: t.SaturationTarget,
			SaturationAdds:   t.SaturationAdds,
			LatencyTarget:    t.LatencyTarget,
			LatencyLookback:  t.LatencyLookback,
			Hold:             t.Hold,
		},
		Replicas: len(t.Endpoints),
		Filling:  now.Sub(o.Opened) < t.Selection.Lookback(),
		Pods:     podsOf(t, o, now),
		Upstream: upstreamOf(t, o.Upstream, now),
		Leader:   o.Leader,
		Capacity: o.Capacity,
	}
	if o.Workload != nil {
		in.Replicas = o.Workload.Replicas
	}
	return in
}

// upstream is the reading of a query over the upstream's samples; a nil query has none.
func (g *gathering) upstream(ctx context.Context, name string, q *metricsource.Query) decision.Reading {
	if q == nil {
		return decision.Reading{}
	}
	w := g.observed.Upstream.Window
	result, err := q.Eval(ctx, w, g.in.Now)
	r := g.reading(name, q.String(), result, err, instanceOf)
	r.Newest = w.Updated()
	return r
}

// pods is the reading of one of the trigger's own signals; a nil query has none.
func (g *gathering) pods(ctx context.Context, name string, q *metricsource.Query) decision.Reading {
	if q == nil {
		return decision.Reading{}
	}
	if remote, own := g.trigger.Prometheus.Remote(q); own {
		return g.answered(ctx, name, remote, q)
	}
	w := g.observed.Pods.Window
	if g.observed.Workload != nil && g.in.Replicas == 0 && len(g.in.Pods) == 0 {
		// No pod has samples, and a request may be waiting for the first one.
		return decision.Reading{Configured: true}
	}
	var samples storage.Queryable = w
	elsewhere := g.countedUpstream(q)
	if elsewhere {
		samples = w.Without(g.observed.Upstream.Window)
	}
	result, err := g.results.eval(ctx, q, w, samples, elsewhere, g.in.Now)
	r := g.reading(name, q.String(), result, err, podOf)
	r.FromUpstream, r.Newest = elsewhere, w.Updated()
	return r
}

// answered is the reading of a query that a Prometheus answers as it is: its result is
// in the window.
func (g *gathering) answered(ctx context.Context, name string, remote metricsource.RemoteQuery, q *metricsource.Query) decision.Reading {
	status := g.observed.Queries[remote.Name]
	if status.Tried.IsZero() {
		return decision.Reading{Configured: true}
	}
	var result metricsource.Result
	err := expired(status.Status, g.trigger.StaleAfter, g.in.Now)
	if err == nil {
		w := g.observed.Pods.Window
		result, err = g.results.eval(ctx, q, w, w, false, g.in.Now)
		result.Warnings = append(slices.Clone(result.Warnings), status.Warnings...)
	}
	r := g.reading(name, remote.Query, result, err, podOf)
	r.Independent = true
	return r
}

// expired is the error of a query whose last result is too old to use; nil if it is not.
func expired(st metricsource.Status, staleAfter time.Duration, now time.Time) error {
	switch {
	case !st.Answered.IsZero() && now.Sub(st.Answered) <= staleAfter:
		return nil
	case st.Err != nil:
		return st.Err
	}
	return fmt.Errorf("no result for %s", now.Sub(st.Answered).Round(time.Second))
}

// countedUpstream reports whether the upstream exports the series that the query is
// about, too: an API server that counts the requests of its pods. They must not be
// counted twice. An upstream that is silent takes nothing from the pods.
func (g *gathering) countedUpstream(q *metricsource.Query) bool {
	w := g.observed.Upstream.Window
	if w == nil || g.trigger.Upstream.InFlight || !w.Has(q) {
		return false
	}
	return slices.ContainsFunc(g.in.Upstream.Sources, func(p decision.Pod) bool { return p.State == decision.Answering })
}

func podOf(e metricsource.Element) string      { return e.Pod }
func instanceOf(e metricsource.Element) string { return e.Instance }

// reading is a result as a decision sees it. The result is kept for the explanation.
func (g *gathering) reading(name, promQL string, result metricsource.Result, err error, of func(metricsource.Element) string) decision.Reading {
	r := decision.Reading{Configured: true}
	if err != nil {
		r.Err = err.Error()
	}
	for _, e := range result.Elements {
		r.Values = append(r.Values, decision.Value{Pod: of(e), Value: e.Value})
	}
	g.signals = append(g.signals, Signal{Name: name, PromQL: promQL, Result: result, Err: r.Err})
	return r
}
