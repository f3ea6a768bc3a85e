package metricsource

import (
	"regexp"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// ParseRemoteQuery parses an expression that a server with samples of its own
// answers: it yields an instant vector or a scalar, and what it may look back at
// and cost is that server's to say.
func ParseRemoteQuery(text string) (*Query, error) {
	expr, err := parseNumbers(text)
	if err != nil {
		return nil, err
	}
	q := &Query{text: text}
	q.lookback, _ = lookback(expr) // what is fixed in time looks back all the same
	return q, nil
}

// OfPods returns the expression with its selectors narrowed to series of the
// pods (labels namespace and pod), so that it is about no others.
func (q *Query) OfPods(namespace string, pods []string) string {
	expr, err := parseExpr(q.text)
	if err != nil {
		panic(err) // it has been parsed before
	}
	quoted := make([]string, len(pods))
	for i, pod := range pods {
		quoted[i] = regexp.QuoteMeta(pod)
	}
	// They are to be printed, and match nothing here.
	inNamespace := &labels.Matcher{Type: labels.MatchEqual, Name: "namespace", Value: namespace}
	ofPods := &labels.Matcher{Type: labels.MatchRegexp, Name: "pod", Value: strings.Join(quoted, "|")}
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if s, ok := node.(*parser.VectorSelector); ok {
			s.LabelMatchers = append(s.LabelMatchers, inNamespace, ofPods)
		}
		return nil
	})
	return expr.String()
}
