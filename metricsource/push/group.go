package push

import (
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/inference-scaler/inference-scaler/metricsource"
)

// Config says who takes the reports for a workload.
type Config struct {
	Namespace, Workload string
	Want                *metricsource.Want
	Window              *metricsource.Window
	// OnReport is called when what is reported has changed. It must be quick.
	OnReport func()
}

// Group is the reporters of one workload, as one trigger sees them.
type Group struct {
	store    *Store
	cfg      Config
	workload workload
	members  map[string]*member // by instance; the store's lock guards it
}

// member is a reporter in a group's window.
type member struct {
	target *metricsource.Target
	series map[uint64]known // by the hash of their labels
	status metricsource.Status
}

// known is a series that was reported before: resolved once, not per report.
type known struct {
	labels labels.Labels
	series *metricsource.Series // nil where no query selects it
	role   metricsource.Role
}

// Open adds a group, with the reports that stand. It must be closed.
func (s *Store) Open(cfg Config) *Group {
	g := &Group{store: s, cfg: cfg, workload: workload{cfg.Namespace, cfg.Workload}, members: map[string]*member{}}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.groups[g.workload] == nil {
		s.groups[g.workload] = map[*Group]struct{}{}
	}
	s.groups[g.workload][g] = struct{}{}
	for _, r := range s.reporters[g.workload] {
		if r.last != nil {
			g.take(r, r.at, true)
		}
	}
	return g
}

// Close takes all reporters out of the window. The group must not be used any more.
func (g *Group) Close() {
	g.store.mu.Lock()
	defer g.store.mu.Unlock()
	delete(g.store.groups[g.workload], g)
	if len(g.store.groups[g.workload]) == 0 {
		delete(g.store.groups, g.workload)
	}
	for _, m := range g.members {
		m.target.Remove()
	}
	clear(g.members)
}

// Status returns what is known of each reporter whose report stands, by instance.
func (g *Group) Status() []metricsource.Status {
	g.store.mu.Lock()
	defer g.store.mu.Unlock()
	all := make([]metricsource.Status, 0, len(g.members))
	for _, m := range g.members {
		all = append(all, m.status)
	}
	slices.SortFunc(all, func(a, b metricsource.Status) int { return strings.Compare(a.Target, b.Target) })
	return all
}

// take puts a report into the window.
func (g *Group) take(r *reporter, at time.Time, changed bool) {
	m := g.members[r.instance]
	if m == nil {
		m = &member{
			target: g.cfg.Window.Target(labels.FromStrings("namespace", r.namespace, "job", "upstream", "instance", r.instance)),
			series: map[uint64]known{},
			status: metricsource.Status{Target: r.instance},
		}
		g.members[r.instance], changed = m, true
	}
	var role metricsource.Role
	points := make([]metricsource.Point, 0, len(r.report.samples))
	for _, s := range r.report.samples {
		if k := g.resolve(m, s.labels); k.series != nil {
			role = role.Join(k.role)
			points = append(points, metricsource.Point{Series: k.series, Value: s.value})
		}
	}
	m.status.Tried, m.status.Err = at, m.target.Commit(time.Now(), points) // it stands, whenever it came
	m.forget(r.report.samples)
	if missing := g.cfg.Want.Missing(role); m.status.Err == nil && len(missing) > 0 {
		m.status.Err = &metricsource.NoSeriesError{Missing: missing}
	}
	if m.status.Err == nil {
		m.status.Answered = at
	}
	if changed {
		g.cfg.OnReport()
	}
}

func (g *Group) resolve(m *member, ls labels.Labels) known {
	hash := ls.Hash()
	if k, ok := m.series[hash]; ok && labels.Equal(k.labels, ls) {
		return k
	}
	k := known{labels: ls}
	if role, wanted := g.cfg.Want.Role(ls); wanted {
		k.role, k.series = role, m.target.Series(ls)
	}
	m.series[hash] = k
	return k
}

// forget keeps no series that the last report did not hold: it is the report that is bounded.
func (m *member) forget(held []sample) {
	if len(m.series) <= len(held) {
		return
	}
	kept := make(map[uint64]known, len(held))
	for _, s := range held {
		hash := s.labels.Hash()
		kept[hash] = m.series[hash]
	}
	m.series = kept
}

func (g *Group) drop(instance string) {
	if m := g.members[instance]; m != nil {
		m.target.Remove()
		delete(g.members, instance)
		g.cfg.OnReport()
	}
}
