package prometheus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/inference-scaler/inference-scaler/metricsource"
)

var errHistogram = errors.New("the query yields a native histogram; wanted: numbers")

// ownQuery is an own query of a group. The lock of the group guards the status.
type ownQuery struct {
	metricsource.RemoteQuery
	samples *metricsource.Target // elements that belong to no pod of the group
	status  metricsource.QueryStatus
}

func newQuery(q metricsource.RemoteQuery, window *metricsource.Window) *ownQuery {
	return &ownQuery{
		RemoteQuery: q,
		samples:     window.Target(labels.FromStrings(metricsource.QueryLabel, q.Name)),
		status:      metricsource.QueryStatus{Status: metricsource.Status{Target: q.Name, Err: errNotQueried}},
	}
}

// queryOwn sends an own query and writes its result. pods are the pods of the group at the
// start of the round. It returns the error of the query.
func (g *Group) queryOwn(ctx context.Context, q *ownQuery, pods []*pod) error {
	found, warnings, err := g.server.query(ctx, q.Query)
	switch {
	case errors.Is(err, errTooMany):
		err = fmt.Errorf("%w: aggregate them", err)
	case slices.ContainsFunc(found, func(e *model.Sample) bool { return e.Histogram != nil }):
		err = fmt.Errorf("%s: %w", g.cfg.Address, errHistogram)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cancelled(ctx) {
		return context.Canceled
	}
	now := time.Now()
	if err == nil {
		err = g.write(now, q, found, pods)
	}
	q.status.Tried, q.status.Err = now, err
	if err != nil {
		q.samples.Fail(now)
		return err
	}
	q.status.Answered, q.status.Warnings = now, warnings
	return nil
}

// write writes the result of an own query. Elements of the group's pods belong to these
// pods, and all others to the target of the query. It drops the elements of pods that were
// added since the start of the round, and of pods that left the group recently.
func (g *Group) write(now time.Time, q *ownQuery, found model.Vector, pods []*pod) error {
	queried := make(map[string]*pod, len(pods))
	points := map[*metricsource.Target][]metricsource.Point{q.samples: nil}
	for _, p := range pods {
		queried[p.spec.Name] = p
		if p.results[q.Name] != nil && g.pods[p.spec.Name] == p {
			points[p.results[q.Name]] = nil // without elements, the previous ones end
		}
	}
	for _, e := range found {
		name, to := string(e.Metric["pod"]), q.samples
		switch p := g.pods[name]; {
		case p != nil && p == queried[name]:
			to = p.resultTarget(q.Name)
		case p != nil || now.Sub(g.departed[name]) <= departedRetention:
			continue
		}
		points[to] = append(points[to], metricsource.Point{Series: to.Series(elementLabels(e.Metric, to == q.samples)), Value: float64(e.Value)})
	}
	var errs []error
	for to, points := range points {
		errs = append(errs, to.Commit(now, points))
	}
	return errors.Join(errs...)
}

// elementLabels returns the labels of the series of an element. The metric name is renamed
// to exported_name, and the pod to exported_pod if it is not of the group. The new names
// avoid conflicts, so that different elements have different series.
func elementLabels(m model.Metric, ofNoPod bool) labels.Labels {
	ls := labelsOf(m)
	b := labels.NewBuilder(ls)
	keep := func(name, as string) {
		for ls.Has(as) {
			as = "exported_" + as
		}
		b.Set(as, ls.Get(name))
	}
	keep(model.MetricNameLabel, "exported_name")
	if ofNoPod {
		keep("pod", "exported_pod")
	}
	return b.Del("pod").Set(model.MetricNameLabel, metricsource.QueryMetric).Labels()
}
