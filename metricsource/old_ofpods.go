package metricsource

import (
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// OfPods returns the expression with its selectors narrowed to series of the pods
// (labels namespace and pod). It goes with prometheus.Source.
func (q *Query) OfPods(namespace string, pods []string) string {
	expr, err := parseExpr(q.text)
	if err != nil {
		panic(err) // the text was parsed before
	}
	inNamespace := &labels.Matcher{Type: labels.MatchEqual, Name: "namespace", Value: namespace}
	ofPods := &labels.Matcher{Type: labels.MatchRegexp, Name: "pod", Value: alternatives(pods)}
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if s, ok := node.(*parser.VectorSelector); ok {
			s.LabelMatchers = append(s.LabelMatchers, inNamespace, ofPods)
		}
		return nil
	})
	return expr.String()
}
