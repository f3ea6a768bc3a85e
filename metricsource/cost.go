package metricsource

import (
	"context"
	"errors"
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
)

// Limits of one evaluation. The engine checks its own time limit only between steps, and
// never limits the size of labels.
const (
	minSubqueryStep = time.Second
	maxRegexLength  = 1024 // bytes
	maxRepetitions  = 64   // in one regular expression; x{9} counts as 9
	maxRelabelCalls = 2
	maxReferences   = 8   // to labels, in one call of label_join or label_replace
	maxReplacement  = 256 // bytes of text in one such call

	maxQuerySeries   = 1_000_000
	maxCreatedLabels = 16 << 20 // bytes of labels from label_join and label_replace
)

// cost describes how much an expression can enlarge its input.
type cost struct {
	relabels int
	// growth is the factor by which label_join and label_replace can multiply labels.
	growth int
}

// costOf returns the cost of the expression, or an error if the expression exceeds a
// limit.
func costOf(expr parser.Expr) (cost, error) {
	c := cost{growth: 1}
	var err error
	refuse := func(reason error) {
		if err == nil {
			err = reason
		}
	}
	parser.Inspect(expr, func(node parser.Node, path []parser.Node) error {
		switch n := node.(type) {
		case *parser.SubqueryExpr:
			if n.Step != 0 && n.Step < minSubqueryStep {
				refuse(fmt.Errorf("has a subquery with a step of %s; at least %s", n.Step, minSubqueryStep))
			}
			if slices.ContainsFunc(path, func(p parser.Node) bool { _, nested := p.(*parser.SubqueryExpr); return nested }) {
				refuse(errors.New("has a subquery within a subquery"))
			}
		case *parser.Call:
			if n.Func.Name == "label_join" || n.Func.Name == "label_replace" {
				refuse(c.relabel(n))
			}
		case *parser.VectorSelector:
			for _, m := range n.LabelMatchers {
				if m.Type == labels.MatchRegexp || m.Type == labels.MatchNotRegexp {
					refuse(checkRegex(m.Value))
				}
			}
		}
		return nil
	})
	return c, err
}

// relabel adds the cost of a call of label_join or label_replace.
func (c *cost) relabel(call *parser.Call) error {
	name := call.Func.Name
	if c.relabels++; c.relabels > maxRelabelCalls {
		return fmt.Errorf("calls label_join or label_replace more than %d times", maxRelabelCalls)
	}
	var texts []string
	for _, arg := range call.Args[1:] {
		text, ok := literal(arg)
		if !ok {
			return fmt.Errorf("calls %s with %s; wanted: a string", name, arg)
		}
		texts = append(texts, text)
	}
	references, text := len(texts)-2, len(texts[1])*len(texts) // dst, separator, sources
	if name == "label_replace" {
		if err := checkRegex(texts[3]); err != nil { // dst, replacement, source, regex
			return err
		}
		references, text = strings.Count(texts[1], "$"), len(texts[1])
	}
	if references > maxReferences || text > maxReplacement {
		return fmt.Errorf("calls %s with %d references to labels and %d bytes of text; at most %d and %d", name, references, text, maxReferences, maxReplacement)
	}
	c.growth *= 1 + references
	return nil
}

func literal(arg parser.Expr) (string, bool) {
	for {
		switch n := arg.(type) {
		case *parser.ParenExpr:
			arg = n.Expr
		case *parser.StringLiteral:
			return n.Val, true
		default:
			return "", false
		}
	}
}

// checkRegex rejects regular expressions that take a long time per byte of a label.
func checkRegex(text string) error {
	if len(text) > maxRegexLength {
		return fmt.Errorf("has a regular expression of %d bytes; at most %d", len(text), maxRegexLength)
	}
	re, err := syntax.Parse(text, syntax.Perl|syntax.DotNL)
	if err != nil {
		return fmt.Errorf("has an invalid regular expression: %w", err)
	}
	if n := repetitions(re); n > maxRepetitions {
		return fmt.Errorf("has a regular expression with %d repetitions (x{9} counts as 9); at most %d", n, maxRepetitions)
	}
	return nil
}

// repetitions counts the repeated and optional parts of a regular expression.
func repetitions(re *syntax.Regexp) (n int) {
	for _, sub := range re.Sub {
		n += repetitions(sub)
	}
	switch re.Op {
	case syntax.OpStar, syntax.OpPlus, syntax.OpQuest:
		n++
	case syntax.OpRepeat:
		times := re.Max
		if times < 0 {
			times = re.Min + 1
		}
		n = (n + 1) * times
	}
	return n
}

// meter stops an evaluation that exceeds maxQuerySeries or maxCreatedLabels.
type meter struct {
	samples storage.Queryable
	at      int64 // ms; the time of the evaluation
	growth  int
	series  int
	created int // bytes
}

// Querier implements storage.Queryable.
func (m *meter) Querier(mint, maxt int64) (storage.Querier, error) {
	q, err := m.samples.Querier(mint, maxt)
	if own, ok := q.(querier); ok {
		own.meter = m
		return own, nil
	}
	return q, err
}

// count counts a selected series.
func (m *meter) count(s *Series) error {
	if m == nil {
		return nil
	}
	if m.series++; m.series > maxQuerySeries {
		return fmt.Errorf("more than %d series are selected", maxQuerySeries)
	}
	if m.growth > 1 {
		if m.created += s.size * m.growth; m.created > maxCreatedLabels {
			return fmt.Errorf("label_join and label_replace could create more than %d MiB of labels", maxCreatedLabels>>20)
		}
	}
	return nil
}

// contextInterval is the number of visited series between two checks of the context.
const contextInterval = 16

// contextError returns the error of the context, at every 16th series only.
func contextError(ctx context.Context, visited int) error {
	if visited%contextInterval != 0 {
		return nil
	}
	return ctx.Err()
}
