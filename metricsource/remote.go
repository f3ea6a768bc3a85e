package metricsource

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// QueryMetric and QueryLabel name the series that the results of remote queries are
// written to.
const (
	QueryMetric = "query_result"
	QueryLabel  = "query"
)

// RemoteQuery is PromQL that another server answers, under a name of the asker.
type RemoteQuery struct{ Name, Query string }

// Selector is PromQL that selects the last result in the window that it is written to:
// the elements, with their labels. The element's metric name is
// the label exported_name. The label pod is there for pods of the workload alone; of
// another pod it is exported_pod.
func (q RemoteQuery) Selector() string {
	return "sum without (" + QueryLabel + ") (" + QueryMetric + "{" + QueryLabel + "=" + strconv.Quote(q.Name) + "})"
}

// QueryStatus is what is known of a remote query.
type QueryStatus struct {
	Status            // Target is the query's name
	Warnings []string // of the last answer
}

// ParseRemoteQuery parses an expression that another server answers from its own
// samples. It yields an instant vector or a scalar. The server has its own limits
// of look-back and cost, so none are checked here.
func ParseRemoteQuery(text string) (*Query, error) {
	expr, err := parseNumbers(text)
	if err != nil {
		return nil, err
	}
	q := &Query{text: text}
	q.lookback, _ = lookback(expr) // an expression fixed in time has a look-back too
	return q, nil
}

// OfPods returns a PromQL selector of the series that the queries select, of the
// given pods (labels namespace and pod); "" where the queries select none. It also
// matches other series of the same names: one selector cannot hold the matchers of
// several, and Role tells the series apart.
func (w *Want) OfPods(namespace string, pods []string) string {
	var names []string
	for _, matchers := range w.selectors {
		if pattern := namePattern(matchers); !aboutUp(matchers) && !slices.Contains(names, pattern) {
			names = append(names, pattern)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return podSeries(strings.Join(names, "|"), namespace, pods)
}

// EnginesOfPods returns an expression that yields an element for each of the given
// pods with a series of the engine; "" where the engine exports its needed series
// from the start. See Idle.
func (w *Want) EnginesOfPods(namespace string, pods []string) string {
	if len(w.idle.Prefixes) == 0 {
		return ""
	}
	return "count by (pod) (" + podSeries("(?:"+alternatives(w.idle.Prefixes)+").*", namespace, pods) + ")"
}

// namePattern is an anchored regular expression of the names that the matchers admit.
func namePattern(matchers []*labels.Matcher) string {
	for _, m := range nameMatchers(matchers) {
		switch m.Type {
		case labels.MatchEqual:
			return regexp.QuoteMeta(m.Value)
		case labels.MatchRegexp:
			return m.Value
		}
	}
	return ".+" // the matchers are of other labels, or exclude names
}

// podSeries prints matchers; they match nothing here, so none is compiled.
func podSeries(namePattern, namespace string, pods []string) string {
	return "{" + strings.Join([]string{
		(&labels.Matcher{Type: labels.MatchRegexp, Name: model.MetricNameLabel, Value: namePattern}).String(),
		(&labels.Matcher{Type: labels.MatchEqual, Name: "namespace", Value: namespace}).String(),
		(&labels.Matcher{Type: labels.MatchRegexp, Name: "pod", Value: alternatives(pods)}).String(),
	}, ",") + "}"
}

// alternatives is a regular expression of exactly these texts.
func alternatives(texts []string) string {
	quoted := make([]string, len(texts))
	for i, text := range texts {
		quoted[i] = regexp.QuoteMeta(text)
	}
	return strings.Join(quoted, "|")
}
