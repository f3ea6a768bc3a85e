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

// discoveryTimeout is how long a pod can be ready without any series at the server before
// it is faulty: twice the default scrape interval of Prometheus.
const discoveryTimeout = 2 * time.Minute

var (
	errUnknownPod = fmt.Errorf("ready for %s, but Prometheus has no series of this pod; it must scrape the pod and set the labels namespace and pod", discoveryTimeout)
	errLostPod    = errors.New("no current series of this pod in Prometheus")
)

// pod is one pod of a group. The lock of the group guards the second block of fields.
type pod struct {
	spec    Target
	window  *metricsource.Window
	samples *metricsource.Target

	ready        bool
	results      map[string]*metricsource.Target // the pod's elements of own queries, by query name
	status       metricsource.Status
	unknownSince time.Time // zero unless the pod is ready and was never found
}

func newPod(spec Target, window *metricsource.Window) *pod {
	return &pod{
		spec:    spec,
		window:  window,
		samples: window.Target(spec.Labels),
		ready:   spec.Ready,
		results: map[string]*metricsource.Target{},
		status:  metricsource.Status{Target: spec.Name, Err: errNotQueried},
	}
}

// setReady sets the readiness of the pod, and returns the previous one.
func (p *pod) setReady(ready bool) bool {
	previous := p.ready
	p.ready = ready
	return previous
}

func (p *pod) remove() {
	p.samples.Remove()
	for _, elements := range p.results {
		elements.Remove()
	}
}

// resultTarget returns the target for the pod's elements of an own query.
func (p *pod) resultTarget(name string) *metricsource.Target {
	if p.results[name] == nil {
		p.results[name] = p.window.Target(labels.FromStrings(metricsource.QueryLabel, name, "pod", p.spec.Name))
	}
	return p.results[name]
}

// reading is the result of one round for a pod.
type reading struct {
	pod    *pod
	points []metricsource.Point
	role   metricsource.Role
	engine bool // the server has a series of the engine
	err    error
}

// queryPods queries and writes the series of some pods. It returns the error of the server.
func (g *Group) queryPods(ctx context.Context, pods []*pod) error {
	readings, err := g.read(ctx, pods)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cancelled(ctx) {
		return context.Canceled
	}
	now := time.Now()
	for _, r := range readings {
		r.record(now, g.cfg.Selection)
	}
	return err
}

// read queries the selected series of the pods.
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

// add adds an element to the reading. The labels of the target replace those of the
// element. If two series are then equal, the last one applies.
func (r *reading) add(e *model.Sample, selection *metricsource.Selection) {
	b := labels.NewBuilder(labelsOf(e.Metric))
	r.pod.spec.Labels.Range(func(l labels.Label) { b.Del(l.Name) })
	ls := b.Labels()
	r.engine = r.engine || selection.IsEngineMetric(ls.Get(model.MetricNameLabel))
	if role, selected := selection.Role(ls); selected {
		r.role = r.role.Join(role.At(float64(e.Value)))
		r.points = append(r.points, metricsource.Point{Series: r.pod.samples.Series(ls), Value: float64(e.Value)})
	}
}

// findEngines queries which pods run an engine. It covers only pods that would then be
// idle.
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

// record writes the reading to the window, and its result to the status. A reading with all
// required series ends the series that it lacks. Any other reading keeps them.
func (r *reading) record(now time.Time, selection *metricsource.Selection) {
	p, missing, err := r.pod, selection.Missing(r.role), r.err
	idle := len(missing) > 0 && selection.Idle(r.role, r.engine)
	found := err == nil && (len(missing) == 0 || len(r.points) > 0 || r.engine)
	if err != nil || found {
		p.unknownSince = time.Time{}
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

// notFound returns the error of a pod without series at the server. For a new pod it is nil
// until discoveryTimeout.
func (p *pod) notFound(now time.Time) error {
	switch {
	case !p.status.Answered.IsZero():
		return errLostPod
	case !p.ready:
		p.unknownSince = time.Time{}
		return nil
	case p.unknownSince.IsZero():
		p.unknownSince = now
	}
	if now.Sub(p.unknownSince) < discoveryTimeout {
		return nil
	}
	return errUnknownPod
}

// labelsOf returns the labels of an element. They are valid UTF-8, because they come from
// decoded JSON.
func labelsOf(m model.Metric) labels.Labels {
	b := labels.NewBuilder(labels.EmptyLabels())
	for name, value := range m {
		b.Set(string(name), string(value))
	}
	return b.Labels()
}
