package scaler

import (
	"context"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource"
	"github.com/inference-scaler/inference-scaler/scaler/decision"
)

// source is where a trigger's own queries are answered: from what is read of its
// pods, or by a Prometheus. It is used under the lock of the trigger's evaluation.
type source interface {
	// follow takes the targets or the pods that the workload has now; gone: there
	// is no such workload any more.
	follow(gone bool)
	// pods says of each pod, or endpoint, how far its samples can be believed, and
	// whether all there is to read has been tried, at least once.
	pods(now time.Time) (all []decision.Pod, tried bool)
	// ask answers one of the trigger's queries, under the name of its signal.
	ask(ctx context.Context, signal string, q *metricsource.Query, at time.Time) (metricsource.Result, decision.Reading)
	close()
}

func (l *live) openSource() source {
	switch {
	case l.trigger.Load == nil:
		return unasked{}
	case l.trigger.Prometheus != nil:
		return l.openPolled()
	default:
		return l.openScraped()
	}
}

// asked is a query that the trigger asks of its source, and its place in a decision.
type asked struct {
	signal  string
	query   *metricsource.Query
	reading func(*decision.Input) *decision.Reading
}

// queries are those that the trigger has, the needed ones first.
func (l *live) queries() []asked {
	var all []asked
	for _, q := range []asked{
		{"load", l.trigger.Load, func(in *decision.Input) *decision.Reading { return &in.Load }},
		{"inFlight", l.trigger.InFlight, func(in *decision.Input) *decision.Reading { return &in.InFlight }},
		{"saturation", l.trigger.Saturation, func(in *decision.Input) *decision.Reading { return &in.Saturation }},
		{"latency", l.trigger.Latency, func(in *decision.Input) *decision.Reading { return &in.Latency }},
	} {
		if q.query != nil {
			all = append(all, q)
		}
	}
	return all
}

func podOf(e metricsource.Element) string      { return e.Pod }
func instanceOf(e metricsource.Element) string { return e.Instance }

// reading is a result as a decision sees it.
func reading(result metricsource.Result, err error, of func(metricsource.Element) string) decision.Reading {
	r := decision.Reading{Asked: true}
	if err != nil {
		r.Err = err.Error()
		return r
	}
	for _, e := range result.Elements {
		r.Values = append(r.Values, decision.Value{Pod: of(e), Value: e.Value})
	}
	return r
}
