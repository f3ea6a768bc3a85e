package metricsource

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// QueryMetric and QueryLabel name the series that hold the results of remote queries.
const (
	QueryMetric = "query_result"
	QueryLabel  = "query"
)

// RemoteQuery is a named PromQL query that another server evaluates.
type RemoteQuery struct{ Name, Query string }

// Selector returns a PromQL selector of the last result in its window. Each element has
// its labels; its metric name is in the label exported_name. Only pods of the workload
// are in the label pod; other pods are in the label exported_pod.
func (q RemoteQuery) Selector() string {
	return "sum without (" + QueryLabel + ") (" + QueryMetric + "{" + QueryLabel + "=" + strconv.Quote(q.Name) + "})"
}

// QueryStatus is the status of a remote query.
type QueryStatus struct {
	Status            // Target is the name of the query
	Warnings []string // of the last response
}

// ParseRemoteQuery parses an expression that another server evaluates over its own
// samples. It yields an instant vector or a scalar. The server enforces its own limits
// of lookback and cost, so none are checked here.
func ParseRemoteQuery(text string) (*Query, error) {
	expr, err := parseNumbers(text)
	if err != nil {
		return nil, err
	}
	q := &Query{text: text}
	q.lookback, _ = lookback(expr) // the errors are limits of this package only
	return q, nil
}

// PodSelector returns a PromQL selector of the selected series of the given pods (labels
// namespace and pod), or "" if the queries select no series. It matches all series with
// a selected name: one selector cannot combine the matchers of several. Role then filters
// the series.
func (s *Selection) PodSelector(namespace string, pods []string) string {
	var names []string
	for _, matchers := range s.selectors {
		if pattern := namePattern(matchers); !selectsUp(matchers) && !slices.Contains(names, pattern) {
			names = append(names, pattern)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return podSeries(strings.Join(names, "|"), namespace, pods)
}

// EngineQuery returns an expression that yields one element for each given pod with a
// series of the engine. It returns "" for an engine that always exports its load; see
// Idle.
func (s *Selection) EngineQuery(namespace string, pods []string) string {
	if len(s.idle.Prefixes) == 0 {
		return ""
	}
	return "count by (pod) (" + podSeries("(?:"+alternatives(s.idle.Prefixes)+").*", namespace, pods) + ")"
}

// namePattern returns a regular expression of the metric names that the matchers accept.
func namePattern(matchers []*labels.Matcher) string {
	for _, m := range nameMatchers(matchers) {
		switch m.Type {
		case labels.MatchEqual:
			return regexp.QuoteMeta(m.Value)
		case labels.MatchRegexp:
			return m.Value
		}
	}
	return ".+" // the matchers only exclude names, or match other labels
}

// podSeries prints a selector. Its matchers are never applied in this process, so their
// regular expressions are not compiled.
func podSeries(namePattern, namespace string, pods []string) string {
	return "{" + strings.Join([]string{
		(&labels.Matcher{Type: labels.MatchRegexp, Name: model.MetricNameLabel, Value: namePattern}).String(),
		(&labels.Matcher{Type: labels.MatchEqual, Name: "namespace", Value: namespace}).String(),
		(&labels.Matcher{Type: labels.MatchRegexp, Name: "pod", Value: alternatives(pods)}).String(),
	}, ",") + "}"
}

// alternatives returns a regular expression that matches exactly these texts.
func alternatives(texts []string) string {
	quoted := make([]string, len(texts))
	for i, text := range texts {
		quoted[i] = regexp.QuoteMeta(text)
	}
	return strings.Join(quoted, "|")
}
