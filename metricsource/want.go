package metricsource

import (
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// Want is what a set of queries wants of every target of a workload: which
// series to keep, and by what to tell an engine that is idle from one that does
// not export what the queries are about. It is immutable.
type Want struct {
	selectors [][]*labels.Matcher
	needs     []need
	served    [][]*labels.Matcher
	idle      Idle
	lookback  time.Duration
}

// Idle describes an engine that exports no gauges of its load before its first
// request. The zero Idle is an engine that always does.
type Idle struct {
	// Prefixes of the names of the engine's series: one of them shows that the
	// engine is there.
	Prefixes []string
	// Served selects counters of finished work. Above 0, the engine has had its
	// first request, and series that it still does not export are a fault.
	Served *Query
}

// NewWant returns what the queries want of an engine that behaves as idle says.
// A target must export what every one of needed needs; the series of optional
// queries may be missing.
func NewWant(idle Idle, needed, optional []*Query) *Want {
	w := &Want{idle: idle}
	for _, q := range slices.Concat(needed, optional) {
		w.selectors = append(w.selectors, q.selectors...)
		w.lookback = max(w.lookback, q.lookback)
	}
	for _, q := range needed {
		for _, n := range q.needs {
			if !slices.ContainsFunc(w.needs, func(m need) bool { return m.text == n.text }) {
				w.needs = append(w.needs, n)
			}
		}
	}
	if len(idle.Prefixes) > 0 && idle.Served != nil {
		w.served = idle.Served.selectors
		w.selectors = append(w.selectors, w.served...)
	}
	return w
}

// Lookback returns how far back the deepest of the queries reads.
func (w *Want) Lookback() time.Duration { return w.lookback }

// Names returns the metric names wanted, and a predicate for those that only a
// pattern describes (nil where there are none).
func (w *Want) Names() (exact []string, match func(string) bool) { return names(w.selectors) }

// Role is what one series means to a Want: a bit for each need that it meets,
// and whether it counts served work.
type Role struct {
	needs  uint64
	Served bool
}

// Role returns the part that a series plays, and false for one that no query selects.
func (w *Want) Role(ls labels.Labels) (Role, bool) {
	if ls.Get(model.MetricNameLabel) == "up" || !slices.ContainsFunc(w.selectors, func(ms []*labels.Matcher) bool { return matches(ls, ms) }) {
		return Role{}, false
	}
	var r Role
	for i, n := range w.needs {
		if slices.ContainsFunc(n.selectors, func(ms []*labels.Matcher) bool { return matches(ls, ms) }) {
			r.needs |= 1 << min(i, 63)
		}
	}
	r.Served = slices.ContainsFunc(w.served, func(ms []*labels.Matcher) bool { return matches(ls, ms) })
	return r, true
}

// At returns the role that the series plays with this value: a counter of served
// work at 0 has served none.
func (r Role) At(v float64) Role {
	r.Served = r.Served && v > 0
	return r
}

// Join returns the role of both series together.
func (r Role) Join(s Role) Role { return Role{needs: r.needs | s.needs, Served: r.Served || s.Served} }

// Missing returns the needs that no series of a target met: nil when all are met.
func (w *Want) Missing(r Role) []string {
	var missing []string
	for i, n := range w.needs {
		if r.needs&(1<<min(i, 63)) == 0 {
			missing = append(missing, n.text)
		}
	}
	return missing
}

// Idle reports whether a target of this role runs an engine that waits for its
// first request: the engine is there, has served nothing, and exports no needed
// series. engine: the target exports a series of the engine, wanted or not.
func (w *Want) Idle(r Role, engine bool) bool {
	return len(w.idle.Prefixes) > 0 && engine && !r.Served && r.needs == 0
}

// Prefixes returns the prefixes of the engine's names.
func (w *Want) Prefixes() []string { return w.idle.Prefixes }

// OfEngine reports whether the name is one of the engine's.
func (w *Want) OfEngine(name string) bool {
	return slices.ContainsFunc(w.idle.Prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}
