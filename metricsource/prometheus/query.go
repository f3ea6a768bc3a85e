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

// ownQuery is an own query of a group. The group's lock guards what changes.
type ownQuery struct {
	metricsource.RemoteQuery
	samples *metricsource.Target // its elements of no pod of the group
	status  metricsource.QueryStatus
}

func newQuery(q metricsource.RemoteQuery, window *metricsource.Window) *ownQuery {
	return &ownQuery{
		RemoteQuery: q,
		samples:     window.Target(labels.FromStrings(metricsource.QueryLabel, q.Name)),
		status:      metricsource.QueryStatus{Status: metricsource.Status{Target: q.Name, Err: errNotAsked}},
	}
}

// ask asks an own query and writes its result: pods are those of the group when the
// round began. It returns the error of the query.
func (g *Group) ask(ctx context.Context, q *ownQuery, pods []*pod) error {
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

// write writes the result of an own query: elements of the group's pods to these,
// others to the query's own target. An element of a pod that left the group during the
// server's look-back, or came since the query was asked, is dropped.
func (g *Group) write(now time.Time, q *ownQuery, found model.Vector, pods []*pod) error {
	asked := make(map[string]*pod, len(pods))
	points := map[*metricsource.Target][]metricsource.Point{q.samples: nil}
	for _, p := range pods {
		asked[p.spec.Name] = p
		if p.own[q.Name] != nil && g.pods[p.spec.Name] == p {
			points[p.own[q.Name]] = nil // its elements end if the result has none
		}
	}
	for _, e := range found {
		name, to := string(e.Metric["pod"]), q.samples
		switch p := g.pods[name]; {
		case p != nil && p == asked[name]:
			to = p.ofQuery(q.Name)
		case p != nil || now.Sub(g.left[name]) <= rememberPods:
			continue
		}
		points[to] = append(points[to], metricsource.Point{Series: to.Series(exported(e.Metric, to == q.samples)), Value: float64(e.Value)})
	}
	var errs []error
	for to, points := range points {
		errs = append(errs, to.Commit(now, points))
	}
	return errors.Join(errs...)
}

// exported are the labels that an element is written with. Its metric name, and the pod
// of one that is not the group's, are kept under names that no label has: elements that
// differ stay apart.
func exported(m model.Metric, ofNoPod bool) labels.Labels {
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
