package prometheus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/inference-scaler/inference-scaler/metricsource"
)

// discovery is how long a ready pod may be unknown to the server before that is a
// fault: twice Prometheus' default scrape interval.
const discovery = 2 * time.Minute

var (
	errUnknownPod = fmt.Errorf("ready for %s, and Prometheus has no series of it: is it scraped there, with the labels namespace and pod?", discovery)
	errLostPod    = errors.New("no fresh series of it at Prometheus")
)

// pod is one pod of a group. The group's lock guards what changes.
type pod struct {
	spec    Target
	window  *metricsource.Window
	samples *metricsource.Target

	ready   bool
	own     map[string]*metricsource.Target // its elements of own queries, by the query's name
	status  metricsource.Status
	unknown time.Time // since when it is ready and not found; zero where it is not
}

func newPod(spec Target, window *metricsource.Window) *pod {
	return &pod{
		spec:    spec,
		window:  window,
		samples: window.Target(spec.Labels),
		ready:   spec.Ready,
		own:     map[string]*metricsource.Target{},
		status:  metricsource.Status{Target: spec.Name, Err: errNotAsked},
	}
}

// setReady notes whether the pod is ready, and returns whether it was.
func (p *pod) setReady(ready bool) bool {
	was := p.ready
	p.ready = ready
	return was
}

func (p *pod) remove() {
	p.samples.Remove()
	for _, elements := range p.own {
		elements.Remove()
	}
}

// ofQuery returns the target of the pod's elements of an own query.
func (p *pod) ofQuery(name string) *metricsource.Target {
	if p.own[name] == nil {
		p.own[name] = p.window.Target(labels.FromStrings(metricsource.QueryLabel, name, "pod", p.spec.Name))
	}
	return p.own[name]
}

// reading is what one round finds of a pod.
type reading struct {
	pod    *pod
	points []metricsource.Point
	role   metricsource.Role
	engine bool // the server has a series of the engine
	err    error
}

// askFor asks for the series of some pods and writes them. It returns the error of
// the server.
func (g *Group) askFor(ctx context.Context, pods []*pod) error {
	readings, err := g.read(ctx, pods)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cancelled(ctx) {
		return context.Canceled
	}
	now := time.Now()
	for _, r := range readings {
		r.note(now, g.cfg.Selection)
	}
	return err
}

// read asks for the wanted series of the pods.
func (g *Group) read(ctx context.Context, pods []*pod) (map[string]*reading, error) {
	readings := make(map[string]*reading, len(pods))
	names := make([]string, len(pods))
	for i, p := range pods {
		names[i], readings[p.spec.Name] = p.spec.Name, &reading{pod: p}
	}
	found, _, err := g.server.query(ctx, g.cfg.Selection.PodSelector(g.cfg.Namespace, names))
	if err != nil {
		for _, r := range readings {
			r.err = err
		}
		return readings, err
	}
	for _, e := range found {
		if r := readings[string(e.Metric["pod"])]; r != nil && e.Histogram == nil {
			r.add(e, g.cfg.Selection)
		}
	}
	g.findEngines(ctx, readings)
	return readings, nil
}

// add adds an element to the reading. The target's labels replace those of the element:
// two series that differ in nothing else are one, and the last counts.
func (r *reading) add(e *model.Sample, want *metricsource.Selection) {
	b := labels.NewBuilder(labelsOf(e.Metric))
	r.pod.spec.Labels.Range(func(l labels.Label) { b.Del(l.Name) })
	ls := b.Labels()
	r.engine = r.engine || want.IsEngineMetric(ls.Get(model.MetricNameLabel))
	if role, wanted := want.Role(ls); wanted {
		r.role = r.role.Join(role.At(float64(e.Value)))
		r.points = append(r.points, metricsource.Point{Series: r.pod.samples.Series(ls), Value: float64(e.Value)})
	}
}

// findEngines asks which pods run an engine, of those that would be idle with one.
func (g *Group) findEngines(ctx context.Context, readings map[string]*reading) {
	var names []string
	for name, r := range readings {
		if !r.engine && len(g.cfg.Selection.Missing(r.role)) > 0 && g.cfg.Selection.Idle(r.role, true) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return
	}
	found, _, err := g.server.query(ctx, g.cfg.Selection.EngineQuery(g.cfg.Namespace, names))
	for _, name := range names {
		readings[name].err = err
	}
	for _, e := range found {
		if r := readings[string(e.Metric["pod"])]; r != nil {
			r.engine = true
		}
	}
}

// note writes the reading, and notes the outcome. A reading with all needed series
// replaces the last samples; any other leaves those that it does not hold.
func (r *reading) note(now time.Time, want *metricsource.Selection) {
	p, missing, err := r.pod, want.Missing(r.role), r.err
	idle := len(missing) > 0 && want.Idle(r.role, r.engine)
	found := err == nil && (len(missing) == 0 || len(r.points) > 0 || r.engine)
	if err != nil || found {
		p.unknown = time.Time{}
	}
	switch {
	case err != nil:
	case !found:
		err = p.notFound(now)
	case len(missing) == 0 || idle:
		if err = p.samples.Commit(now, r.points); err == nil {
			p.status.Answered, p.status.Idle = now, idle
		}
	default:
		if err = p.samples.Merge(now, r.points); err == nil {
			err = &metricsource.NoSeriesError{Missing: missing}
		}
	}
	p.status.Tried, p.status.Err = now, err
	var none *metricsource.NoSeriesError
	if !found || err != nil && !errors.As(err, &none) {
		p.samples.Fail(now)
	}
}

// notFound is the error of a pod that the server has no series of; nil until that is a fault.
func (p *pod) notFound(now time.Time) error {
	switch {
	case !p.status.Answered.IsZero():
		return errLostPod
	case !p.ready:
		p.unknown = time.Time{}
		return nil
	case p.unknown.IsZero():
		p.unknown = now
	}
	if now.Sub(p.unknown) < discovery {
		return nil
	}
	return errUnknownPod
}

// labelsOf are the labels of an element. JSON is decoded to valid UTF-8.
func labelsOf(m model.Metric) labels.Labels {
	b := labels.NewBuilder(labels.EmptyLabels())
	for name, value := range m {
		b.Set(string(name), string(value))
	}
	return b.Labels()
}
