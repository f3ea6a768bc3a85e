package metricsource

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
)

const (
	// MaxLookback is how far back a query may look.
	MaxLookback = 10 * time.Minute
	// MaxQueryLength bounds the text of a query, in bytes.
	MaxQueryLength = 4096

	maxQuerySamples = 1_000_000
	maxElements     = 10_000
	queryTimeout    = 5 * time.Second
	subqueryStep    = time.Second

	// A target that does not answer keeps its last samples for as long as its
	// pod exists, and a series that a target no longer exports is marked stale
	// at once. Nothing is left for a lookback to decide.
	endlessLookback = 100 * 365 * 24 * time.Hour
)

// Query is a PromQL expression over the samples of one workload. It is
// immutable.
type Query struct {
	text      string
	selectors [][]*labels.Matcher
	needs     []need
	lookback  time.Duration
	timeless  bool
	cost      cost
}

// need is a set of alternatives, any of which a target must export.
type need struct {
	text      string
	selectors [][]*labels.Matcher
}

// ParseQuery parses an expression that yields an instant vector or a scalar and
// looks back at most MaxLookback. Each of needs is an expression too: a target
// that exports no series of one of them does not export what the query is about,
// which is a fault and not a zero. Without needs it is enough that a target
// exports one of the series that the query selects; an expression that says
// itself what absence means (vector(0), absent(…)) needs none.
func ParseQuery(text string, needs ...string) (*Query, error) {
	q := &Query{text: text}
	expr, err := parseNumbers(text)
	if err != nil {
		return nil, err
	}
	if q.lookback, err = lookback(expr); err != nil {
		return nil, fmt.Errorf("%q %w", text, err)
	}
	if q.lookback > MaxLookback {
		return nil, fmt.Errorf("%q looks back %s; at most %s", text, q.lookback, MaxLookback)
	}
	if q.cost, err = affordable(expr); err != nil {
		return nil, fmt.Errorf("%q %w", text, err)
	}
	q.timeless = q.lookback == 0 && !tellsTime(expr)
	q.selectors = parser.ExtractSelectors(expr)
	for _, text := range needs {
		expr, err := parseExpr(text)
		if err != nil {
			return nil, err
		}
		selectors := parser.ExtractSelectors(expr)
		q.needs = append(q.needs, need{text: spelling(selectors, text), selectors: selectors})
	}
	// up is this scraper's own word, and no target's.
	exported := slices.DeleteFunc(slices.Clone(q.selectors), aboutUp)
	if len(needs) == 0 && len(exported) > 0 && !mindsAbsence(expr) {
		q.needs = []need{{text: text, selectors: exported}}
	}
	return q, nil
}

// spelling says in short what the selectors look for: a name, and how many others
// would do.
func spelling(selectors [][]*labels.Matcher, text string) string {
	exact, match := names(selectors)
	if len(selectors) != 1 || len(exact) == 0 || match != nil {
		return text
	}
	first, _ := nameSet(selectors[0])
	if len(exact) == 1 {
		return first[0]
	}
	return fmt.Sprintf("%s (in any of its %d spellings and names)", first[0], len(exact))
}

// parseNumbers parses an expression that yields numbers at one moment.
func parseNumbers(text string) (parser.Expr, error) {
	expr, err := parseExpr(text)
	if err != nil {
		return nil, err
	}
	if t := expr.Type(); t != parser.ValueTypeVector && t != parser.ValueTypeScalar {
		return nil, fmt.Errorf("%q yields a %s; wanted: an instant vector or a scalar", text, parser.DocumentedType(t))
	}
	return expr, nil
}

func parseExpr(text string) (parser.Expr, error) {
	if len(text) > MaxQueryLength {
		return nil, fmt.Errorf("a query of %d bytes; at most %d", len(text), MaxQueryLength)
	}
	expr, err := promqlParser().ParseExpr(text)
	if err != nil {
		return nil, fmt.Errorf("%q is not PromQL: %w", text, err)
	}
	return expr, nil
}

// lookback returns how far before the moment of evaluation the expression reads.
func lookback(expr parser.Expr) (time.Duration, error) {
	var deepest time.Duration
	var err error
	parser.Inspect(expr, func(node parser.Node, path []parser.Node) error {
		var back time.Duration
		for _, n := range append(slices.Clone(path), node) {
			switch n := n.(type) {
			case *parser.MatrixSelector:
				back += n.Range
			case *parser.SubqueryExpr:
				back += n.Range + n.OriginalOffset
			case *parser.VectorSelector:
				back += n.OriginalOffset
			}
		}
		switch n := node.(type) {
		case *parser.VectorSelector:
			if n.OriginalOffset < 0 {
				err = errors.New("looks ahead; an offset must not be negative")
			}
			if n.Timestamp != nil || n.StartOrEnd != 0 {
				err = errors.New("is fixed in time; @ is not supported")
			}
		case *parser.SubqueryExpr:
			if n.OriginalOffset < 0 || n.Timestamp != nil || n.StartOrEnd != 0 {
				err = errors.New("has a subquery with @ or a negative offset")
			}
		}
		deepest = max(deepest, back)
		return nil
	})
	return deepest, err
}

// tellsTime reports whether the expression asks what time it is, or of when a sample is.
func tellsTime(expr parser.Expr) (tells bool) {
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if call, ok := node.(*parser.Call); ok {
			switch call.Func.Name {
			case "time", "timestamp", "minute", "hour", "day_of_week", "day_of_month", "day_of_year", "days_in_month", "month", "year":
				tells = true
			}
		}
		return nil
	})
	return tells
}

// Timeless reports whether the query's result hangs on the newest samples' values alone:
// while a window's version is the same, so is the result of what was whole.
func (q *Query) Timeless() bool { return q.timeless }

func mindsAbsence(expr parser.Expr) bool {
	minds := false
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if call, ok := node.(*parser.Call); ok {
			switch call.Func.Name {
			case "vector", "absent", "absent_over_time":
				minds = true
			}
		}
		return nil
	})
	return minds
}

// String returns the expression as it was given.
func (q *Query) String() string { return q.text }

// Lookback returns how far back the query reads: 0 for one over the newest samples.
func (q *Query) Lookback() time.Duration { return q.lookback }

// Result is the answer of a query at one moment.
type Result struct {
	Elements []Element
	Warnings []string
}

// Element is one series of a Result.
type Element struct {
	Pod string // its label pod; empty for what the query aggregated over pods
	// Instance is its label instance, empty where the query aggregated over them.
	Instance string
	Labels   string // all of its labels, as PromQL prints them
	Value    float64
}

// Eval answers the query over the samples that a window holds at the given
// moment. The order of the elements is that of their labels.
func (q *Query) Eval(ctx context.Context, samples storage.Queryable, at time.Time) (Result, error) {
	query, err := promqlEngine().NewInstantQuery(ctx, &meter{samples: samples, at: at.UnixMilli(), growth: q.cost.growth}, nil, q.text, at)
	if err != nil {
		return Result{}, fmt.Errorf("query %q: %w", q.text, err)
	}
	defer query.Close()
	answer := query.Exec(ctx)
	if answer.Err != nil {
		return Result{}, fmt.Errorf("query %q: %w", q.text, answer.Err)
	}
	var r Result
	for _, warning := range answer.Warnings.AsErrors() {
		r.Warnings = append(r.Warnings, warning.Error())
	}
	switch v := answer.Value.(type) {
	case promql.Scalar:
		r.Elements = []Element{{Labels: "{}", Value: v.V}}
	case promql.Vector:
		if len(v) > maxElements {
			return Result{}, fmt.Errorf("query %q yields %d elements; at most %d: aggregate them", q.text, len(v), maxElements)
		}
		r.Elements = make([]Element, 0, len(v))
		for _, s := range v {
			if s.H != nil {
				return Result{}, fmt.Errorf("query %q yields a native histogram; wanted: numbers", q.text)
			}
			r.Elements = append(r.Elements, Element{Pod: s.Metric.Get("pod"), Instance: s.Metric.Get("instance"), Labels: s.Metric.String(), Value: s.F})
		}
	default:
		return Result{}, fmt.Errorf("query %q yields a %s; wanted: an instant vector or a scalar", q.text, answer.Value.Type())
	}
	slices.SortFunc(r.Elements, func(a, b Element) int { return strings.Compare(a.Labels, b.Labels) })
	return r, nil
}

// names returns the metric names that the selectors can match, and for those
// that only a pattern describes, a predicate.
func names(selectors [][]*labels.Matcher) (exact []string, match func(string) bool) {
	known := map[string]bool{}
	var patterns [][]*labels.Matcher
	for _, matchers := range selectors {
		if aboutUp(matchers) {
			continue
		}
		listed, ok := nameSet(matchers)
		if !ok {
			patterns = append(patterns, nameMatchers(matchers))
		}
		for _, n := range listed {
			known[n] = true
		}
	}
	exact = slices.Sorted(maps.Keys(known))
	if len(patterns) == 0 {
		return exact, nil
	}
	return exact, func(name string) bool {
		return slices.ContainsFunc(patterns, func(ms []*labels.Matcher) bool {
			return !slices.ContainsFunc(ms, func(m *labels.Matcher) bool { return !m.Matches(name) })
		})
	}
}

// nameSet returns the finite set of metric names that the matchers admit; false
// where they admit more than a list can say.
func nameSet(matchers []*labels.Matcher) ([]string, bool) {
	for _, m := range nameMatchers(matchers) {
		switch m.Type {
		case labels.MatchEqual:
			return []string{m.Value}, true
		case labels.MatchRegexp:
			if set := m.SetMatches(); len(set) > 0 {
				return set, true
			}
		}
	}
	return nil, false
}

func aboutUp(matchers []*labels.Matcher) bool {
	set, ok := nameSet(matchers)
	return ok && len(set) == 1 && set[0] == "up"
}

func nameMatchers(matchers []*labels.Matcher) []*labels.Matcher {
	var out []*labels.Matcher
	for _, m := range matchers {
		if m.Name == model.MetricNameLabel {
			out = append(out, m)
		}
	}
	return out
}

func matches(ls labels.Labels, matchers []*labels.Matcher) bool {
	for _, m := range matchers {
		if !m.Matches(ls.Get(m.Name)) {
			return false
		}
	}
	return true
}

// Both are without state of their own between queries; one of each serves all.
var (
	promqlParser = sync.OnceValue(func() parser.Parser { return parser.NewParser(parser.Options{}) })
	promqlEngine = sync.OnceValue(func() *promql.Engine {
		return promql.NewEngine(promql.EngineOpts{
			MaxSamples:               maxQuerySamples,
			Timeout:                  queryTimeout,
			LookbackDelta:            endlessLookback,
			NoStepSubqueryIntervalFn: func(int64) int64 { return subqueryStep.Milliseconds() },
			Parser:                   promqlParser(),
		})
	})
)
