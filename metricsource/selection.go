package metricsource

import (
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// Selection describes the series that a set of queries reads from each target of a
// workload. It also distinguishes an idle engine from a target without the required
// series. It is immutable.
type Selection struct {
	selectors    [][]*labels.Matcher
	requirements []requirement
	served       [][]*labels.Matcher
	idle         Idle
	lookback     time.Duration
}

// Idle describes an engine that exports no load gauges before its first request. The
// zero Idle describes an engine that always exports them.
type Idle struct {
	// Prefixes of the engine's metric names. One such series shows that the engine runs.
	Prefixes []string
	// Served selects counters of finished requests. Once one is above 0, a missing
	// series is a fault.
	Served *Query
}

// NewSelection returns the Selection of the queries. A target must meet the
// requirements of all required queries. The series of optional queries may be missing.
func NewSelection(idle Idle, required, optional []*Query) *Selection {
	s := &Selection{idle: idle}
	for _, q := range slices.Concat(required, optional) {
		s.selectors = append(s.selectors, q.selectors...)
		s.lookback = max(s.lookback, q.lookback)
	}
	for _, q := range required {
		for _, r := range q.requirements {
			if !slices.ContainsFunc(s.requirements, func(other requirement) bool { return other.text == r.text }) {
				s.requirements = append(s.requirements, r)
			}
		}
	}
	if len(idle.Prefixes) > 0 && idle.Served != nil {
		s.served = idle.Served.selectors
		s.selectors = append(s.selectors, s.served...)
	}
	return s
}

// Lookback returns the longest lookback of the queries.
func (s *Selection) Lookback() time.Duration { return s.lookback }

// Names returns the selected metric names, and a predicate for the names that only a
// pattern describes. Without patterns, match is nil.
func (s *Selection) Names() (exact []string, match func(string) bool) { return names(s.selectors) }

// Role describes what one series contributes to a Selection: a bit for each requirement
// that it meets, and whether it counts finished requests.
type Role struct {
	requirements uint64
	Served       bool
}

// Role returns the role of a series. ok is false if no query selects the series.
func (s *Selection) Role(ls labels.Labels) (role Role, ok bool) {
	selects := func(ms []*labels.Matcher) bool { return matches(ls, ms) }
	if ls.Get(model.MetricNameLabel) == "up" || !slices.ContainsFunc(s.selectors, selects) {
		return Role{}, false
	}
	for i, r := range s.requirements {
		if slices.ContainsFunc(r.selectors, selects) {
			role.requirements |= 1 << min(i, 63)
		}
	}
	role.Served = slices.ContainsFunc(s.served, selects)
	return role, true
}

// At returns the role of the series at this value. A counter of finished requests at 0
// shows that none has finished.
func (r Role) At(v float64) Role {
	r.Served = r.Served && v > 0
	return r
}

// Join returns the combined role of two series.
func (r Role) Join(s Role) Role {
	return Role{requirements: r.requirements | s.requirements, Served: r.Served || s.Served}
}

// Missing returns the requirements that no series of a target meets, or nil.
func (s *Selection) Missing(r Role) []string {
	var missing []string
	for i, req := range s.requirements {
		if r.requirements&(1<<min(i, 63)) == 0 {
			missing = append(missing, req.text)
		}
	}
	return missing
}

// Idle reports whether a target with this combined role runs an engine before its first
// request: the engine runs, has finished no request, and exports no required series.
// engine is true if the target exports any series of the engine, selected or not.
func (s *Selection) Idle(r Role, engine bool) bool {
	return len(s.idle.Prefixes) > 0 && engine && !r.Served && r.requirements == 0
}

// Prefixes returns the prefixes of the engine's metric names.
func (s *Selection) Prefixes() []string { return s.idle.Prefixes }

// IsEngineMetric reports whether the metric name has a prefix of the engine.
func (s *Selection) IsEngineMetric(name string) bool {
	return slices.ContainsFunc(s.idle.Prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}
