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
	// MaxLookback is the longest lookback of a query.
	MaxLookback = 10 * time.Minute
	// MaxQueryLength bounds the text of a query, in bytes.
	MaxQueryLength = 4096

	maxQuerySamples = 1_000_000
	maxElements     = 10_000
	queryTimeout    = 5 * time.Second
	subqueryStep    = time.Second

	// The lookback delta of the engine has no use here. A target that does not respond
	// keeps its last samples for as long as it exists. A series that a target no longer
	// exports is marked stale immediately.
	unlimitedLookback = 100 * 365 * 24 * time.Hour
)

// Query is a PromQL expression over the samples of one workload. It is
// immutable.
type Query struct {
	text         string
	selectors    [][]*labels.Matcher
	requirements []requirement
	lookback     time.Duration
	timeless     bool
	cost         cost
}

// requirement is a set of alternatives: a target must export a series of one selector.
type requirement struct {
	text      string
	selectors [][]*labels.Matcher
}

// ParseQuery parses an expression that yields an instant vector or a scalar, with a
// lookback of at most MaxLookback.
//
// Each requirement is an expression too: a target must export one of the series that it
// selects. A target that does not is faulty; its value is unknown, not zero. Without
// requirements, a target must export one of the series that the query selects. An
// expression that handles absence itself (vector(0), absent(…)) then requires nothing.
func ParseQuery(text string, requirements ...string) (*Query, error) {
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
	if q.cost, err = costOf(expr); err != nil {
		return nil, fmt.Errorf("%q %w", text, err)
	}
	q.timeless = q.lookback == 0 && !readsClock(expr)
	q.selectors = parser.ExtractSelectors(expr)
	for _, text := range requirements {
		expr, err := parseExpr(text)
		if err != nil {
			return nil, err
		}
		selectors := parser.ExtractSelectors(expr)
		q.requirements = append(q.requirements, requirement{text: describe(selectors, text), selectors: selectors})
	}
	// The window writes up itself; no target exports it.
	exported := slices.DeleteFunc(slices.Clone(q.selectors), selectsUp)
	if len(requirements) == 0 && len(exported) > 0 && !handlesAbsence(expr) {
		q.requirements = []requirement{{text: text, selectors: exported}}
	}
	return q, nil
}

// describe shortens selectors of one metric under several names to the first name and
// the number of names.
func describe(selectors [][]*labels.Matcher, text string) string {
	exact, match := names(selectors)
	if len(selectors) != 1 || len(exact) == 0 || match != nil {
		return text
	}
	first, _ := nameSet(selectors[0])
	if len(exact) == 1 {
		return first[0]
	}
	return fmt.Sprintf("%s (under any of its %d names)", first[0], len(exact))
}

// parseNumbers parses an expression that yields an instant vector or a scalar.
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

// lookback returns how far before the time of evaluation the expression reads.
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
				err = errors.New("has an @ modifier, which is not supported")
			}
		case *parser.SubqueryExpr:
			if n.OriginalOffset < 0 || n.Timestamp != nil || n.StartOrEnd != 0 {
				err = errors.New("has a subquery with an @ modifier or a negative offset, which is not supported")
			}
		}
		deepest = max(deepest, back)
		return nil
	})
	return deepest, err
}

// readsClock reports whether the expression reads the time of evaluation or the time of
// a sample.
func readsClock(expr parser.Expr) (reads bool) {
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if call, ok := node.(*parser.Call); ok {
			switch call.Func.Name {
			case "time", "timestamp", "minute", "hour", "day_of_week", "day_of_month", "day_of_year", "days_in_month", "month", "year":
				reads = true
			}
		}
		return nil
	})
	return reads
}

// Timeless reports whether the result depends only on the newest value of each series.
// Such a result remains valid while the version of the window does not change. See
// Window.Version.
func (q *Query) Timeless() bool { return q.timeless }

func handlesAbsence(expr parser.Expr) bool {
	handles := false
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if call, ok := node.(*parser.Call); ok {
			switch call.Func.Name {
			case "vector", "absent", "absent_over_time":
				handles = true
			}
		}
		return nil
	})
	return handles
}

// String returns the original text of the expression.
func (q *Query) String() string { return q.text }

// Lookback returns how far back the query reads. It is 0 if the query reads only the
// newest samples.
func (q *Query) Lookback() time.Duration { return q.lookback }

// Result is the result of a query at one time.
type Result struct {
	Elements []Element
	Warnings []string
}

// Element is one series of a Result.
type Element struct {
	Pod      string // the label pod; empty if the query aggregates over pods
	Instance string // the label instance; empty if the query aggregates over instances
	Labels   string // all labels, in PromQL notation
	Value    float64
}

// Eval evaluates the query over the samples at the given time. The elements are ordered
// by their labels.
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

// names returns the metric names that the selectors can match, and a predicate for the
// names that only a pattern describes.
func names(selectors [][]*labels.Matcher) (exact []string, match func(string) bool) {
	found := map[string]bool{}
	var patterns [][]*labels.Matcher
	for _, matchers := range selectors {
		if selectsUp(matchers) {
			continue
		}
		listed, ok := nameSet(matchers)
		if !ok {
			patterns = append(patterns, nameMatchers(matchers))
		}
		for _, n := range listed {
			found[n] = true
		}
	}
	exact = slices.Sorted(maps.Keys(found))
	if len(patterns) == 0 {
		return exact, nil
	}
	return exact, func(name string) bool {
		return slices.ContainsFunc(patterns, func(ms []*labels.Matcher) bool {
			return !slices.ContainsFunc(ms, func(m *labels.Matcher) bool { return !m.Matches(name) })
		})
	}
}

// nameSet returns the metric names that the matchers accept, or false if the names are
// not a finite set.
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

func selectsUp(matchers []*labels.Matcher) bool {
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

// The parser and the engine keep no state between queries, so all queries share them.
var (
	promqlParser = sync.OnceValue(func() parser.Parser { return parser.NewParser(parser.Options{}) })
	promqlEngine = sync.OnceValue(func() *promql.Engine {
		return promql.NewEngine(promql.EngineOpts{
			MaxSamples:               maxQuerySamples,
			Timeout:                  queryTimeout,
			LookbackDelta:            unlimitedLookback,
			NoStepSubqueryIntervalFn: func(int64) int64 { return subqueryStep.Milliseconds() },
			Parser:                   promqlParser(),
		})
	})
)
