package push

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/inference-scaler/inference-scaler/metricsource"
)

// Config of a group.
type Config struct {
	Namespace, Workload string
	Selection           *metricsource.Selection
	Window              *metricsource.Window
	// OnReport is called when a reported value has changed. It must return at once.
	OnReport func()
}

// Group shows the reports for one workload in the window of one trigger.
type Group struct {
	store    *Store
	cfg      Config
	workload workload
	members  map[string]*member // by instance; the store's lock guards it
}

// member is a reporter in a group's window.
type member struct {
	target   *metricsource.Target
	resolved map[uint64]resolved // by the hash of the labels
	status   metricsource.Status
}

// resolved is a series that was matched with the trigger's queries: once, and not for each
// report.
type resolved struct {
	labels labels.Labels
	series *metricsource.Series // nil where no query selects it
	role   metricsource.Role
}

// Open adds a group, which shows the current reports at once. It must be closed.
func (s *Store) Open(cfg Config) *Group {
	g := &Group{store: s, cfg: cfg, workload: workload{cfg.Namespace, cfg.Workload}, members: map[string]*member{}}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.groups[g.workload] == nil {
		s.groups[g.workload] = map[*Group]struct{}{}
	}
	s.groups[g.workload][g] = struct{}{}
	for _, r := range s.reporters[g.workload] {
		if r.state == current {
			g.show(r, true)
		}
	}
	return g
}

// Close removes all reporters from the window. The group must not be used after it.
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

// Status returns the status of each reporter with a current report, by instance.
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

// show writes a report into the window.
func (g *Group) show(r *reporter, changed bool) {
	m := g.members[r.instance]
	if m == nil {
		m = &member{
			target:   g.cfg.Window.Target(labels.FromStrings("namespace", r.namespace, "job", "upstream", "instance", r.instance)),
			resolved: map[uint64]resolved{},
			status:   metricsource.Status{Target: r.instance},
		}
		g.members[r.instance], changed = m, true
	}
	var role metricsource.Role
	var returned error
	points := make([]metricsource.Point, 0, len(r.series))
	for _, s := range r.series {
		k := g.resolve(m, s.labels)
		if k.series == nil {
			continue
		}
		role = role.Join(k.role)
		points = append(points, metricsource.Point{Series: k.series, Value: s.value})
		if s.returned && returned == nil {
			returned = fmt.Errorf("series %s expired before it was exported again (after %s); raise --push-ttl or export more often",
				s.labels.Get(model.MetricNameLabel), g.store.timeToLive)
		}
	}
	// The samples are of now, whenever the report was received: it has not expired.
	m.status.Tried, m.status.Err = r.heard, m.target.Commit(time.Now(), points)
	m.forget(r.series)
	if missing := g.cfg.Selection.Missing(role); m.status.Err == nil && len(missing) > 0 {
		m.status.Err = &metricsource.NoSeriesError{Missing: missing}
	}
	if m.status.Err == nil {
		m.status.Answered, m.status.Err = r.heard, returned
	}
	if changed {
		g.cfg.OnReport()
	}
}

func (g *Group) resolve(m *member, ls labels.Labels) resolved {
	hash := ls.Hash()
	if k, ok := m.resolved[hash]; ok && labels.Equal(k.labels, ls) {
		return k
	}
	k := resolved{labels: ls}
	if role, wanted := g.cfg.Selection.Role(ls); wanted {
		k.role, k.series = role, m.target.Series(ls)
	}
	m.resolved[hash] = k
	return k
}

// forget drops the series that the last report did not hold: only a report has a quota.
func (m *member) forget(held []series) {
	if len(m.resolved) <= len(held) {
		return
	}
	kept := make(map[uint64]resolved, len(held))
	for _, s := range held {
		hash := s.labels.Hash()
		kept[hash] = m.resolved[hash]
	}
	m.resolved = kept
}

func (g *Group) hide(instance string) {
	if m := g.members[instance]; m != nil {
		m.target.Remove()
		delete(g.members, instance)
		g.cfg.OnReport()
	}
}
