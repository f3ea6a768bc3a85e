package migrate

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Adapter is the configuration of prometheus-adapter. A nil Adapter has no rules.
type Adapter struct {
	prometheus struct {
		URL, Path string
		Port      int
	}
	custom, external []adapterRule
}

type adapterRule struct {
	SeriesQuery  string `yaml:"seriesQuery"`
	MetricsQuery string `yaml:"metricsQuery"`
	Name         struct{ Matches, As string }
	Resources    struct {
		Namespaced *bool
		Overrides  map[string]struct{ Resource string }
	}
}

// namespaceLabel returns the label that restricts the rule to the HPA's namespace, or "" if the
// rule is not restricted.
func (r adapterRule) namespaceLabel() string {
	if r.Resources.Namespaced != nil && !*r.Resources.Namespaced {
		return ""
	}
	for label, of := range r.Resources.Overrides {
		if of.Resource == "namespace" || of.Resource == "namespaces" {
			return label
		}
	}
	return "namespace"
}

// ReadAdapter reads the values of prometheus-adapter's chart, or its configuration file. In the
// latter the rules are a list. The error names the file.
func ReadAdapter(file string, r io.Reader) (*Adapter, error) {
	var head struct {
		Prometheus struct {
			URL, Path string
			Port      int
		}
		Rules         yaml.Node
		ExternalRules []adapterRule `yaml:"externalRules"`
	}
	if err := yaml.NewDecoder(r).Decode(&head); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	a := &Adapter{prometheus: head.Prometheus, external: head.ExternalRules}
	var err error
	switch head.Rules.Kind {
	case yaml.SequenceNode:
		err = head.Rules.Decode(&a.custom)
	case yaml.MappingNode:
		var values struct{ Custom, External []adapterRule }
		err = head.Rules.Decode(&values)
		a.custom, a.external = values.Custom, values.External
	default:
		err = errors.New("rules: missing; wanted: the values of prometheus-adapter's chart, or its configuration file")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return a, nil
}

// address returns the URL of the Prometheus that the adapter queries, or "" if it is unknown.
func (a *Adapter) address() string {
	if a == nil || a.prometheus.URL == "" {
		return ""
	}
	address := strings.TrimSuffix(a.prometheus.URL, "/")
	if !strings.Contains(strings.TrimPrefix(strings.TrimPrefix(address, "http://"), "https://"), ":") {
		// Values that override those of the chart may omit its default port.
		address += ":" + strconv.Itoa(cmp.Or(a.prometheus.Port, 9090))
	}
	return address + strings.TrimSuffix(a.prometheus.Path, "/")
}

// metricRule is the adapter's rule for one metric. Without a rule, the series has the
// metric's name.
type metricRule struct {
	series         string   // the name
	matchers       []string // of the labels
	metricsQuery   string   // a template; "" for a sum
	namespaceLabel string   // as in adapterRule
}

// plain reports whether the rule only aggregates the series over pods or over time.
func (r metricRule) plain() bool {
	return r.metricsQuery == "" || plainQuery.MatchString(r.metricsQuery)
}

var plainQuery = regexp.MustCompile(`^\s*(sum|avg|max|avg_over_time|max_over_time|\(|\s|<<\s*\.(Series|GroupBy)\s*>>|\{\s*<<\s*\.LabelMatchers\s*>>\s*\}|\[\w+\]|by|\))*\s*$`)

// podRule returns the rule of a Pods metric.
func (a *Adapter) podRule(metric string) (metricRule, bool) {
	if a == nil {
		return metricRule{series: metric}, false
	}
	return find(a.custom, metric)
}

// clusterRule returns the rule of an External or an Object metric.
func (a *Adapter) clusterRule(metric string, object bool) (metricRule, bool) {
	if a == nil {
		return metricRule{series: metric}, false
	}
	if object {
		return find(slices.Concat(a.custom, a.external), metric)
	}
	return find(slices.Concat(a.external, a.custom), metric)
}

func find(rules []adapterRule, metric string) (metricRule, bool) {
	for _, rule := range rules {
		series, matchers := splitSelector(rule.SeriesQuery)
		if series != "" && rule.rename(series) == metric {
			return metricRule{series, matchers, rule.MetricsQuery, rule.namespaceLabel()}, true
		}
	}
	return metricRule{series: metric}, false
}

// splitSelector splits name{a="b",c!=""}. It drops matchers that only require a label: in the
// adapter's rules they select the series to list.
func splitSelector(selector string) (name string, matchers []string) {
	name, rest, _ := strings.Cut(strings.TrimSpace(selector), "{")
	for _, m := range matcher.FindAllString(strings.TrimSuffix(rest, "}"), -1) {
		m = strings.ReplaceAll(m, "'", `"`)
		switch {
		case strings.HasPrefix(m, "__name__=\""):
			name = strings.Trim(strings.TrimPrefix(m, "__name__="), `"`)
		case !strings.HasSuffix(m, `!=""`):
			matchers = append(matchers, m)
		}
	}
	return name, matchers
}

var matcher = regexp.MustCompile(`[a-zA-Z_][a-zA-Z0-9_]*\s*(=~|!~|!=|=)\s*("(\\.|[^"\\])*"|'[^'"]*')`)

// rename returns the metric name that the adapter gives to the series, or "" if the rule does
// not match it.
func (r adapterRule) rename(series string) string {
	if r.Name.As == "" && r.Name.Matches == "" {
		return series
	}
	pattern, err := regexp.Compile(r.Name.Matches)
	if err != nil || !pattern.MatchString(series) {
		return ""
	}
	as := r.Name.As
	if as == "" {
		if as = "$0"; pattern.NumSubexp() == 1 {
			as = "$1"
		}
	}
	at := pattern.FindStringSubmatchIndex(series)
	return string(pattern.ExpandString(nil, group.ReplaceAllString(as, "$${$1}"), series, at))
}

// group matches a reference to a group. In Go, it needs braces before a letter or a digit.
var group = regexp.MustCompile(`\$(\d+)`)

// labels returns the matchers of the rule and of more, separated by commas.
func (r metricRule) labels(more map[string]string) string {
	matchers := slices.Clone(r.matchers)
	for _, name := range slices.Sorted(maps.Keys(more)) {
		matchers = append(matchers, fmt.Sprintf("%s=%q", name, more[name]))
	}
	return strings.Join(matchers, ",")
}

// query returns the rule's query for one workload, grouped by a label. An empty label makes it
// a single number.
func (r metricRule) query(by string, more map[string]string, namespace string) string {
	if namespace != "" && r.namespaceLabel != "" {
		more = maps.Clone(more)
		if more == nil {
			more = map[string]string{}
		}
		more[r.namespaceLabel] = namespace
	}
	values := map[string]string{"Series": r.series, "LabelMatchers": r.labels(more), "GroupBy": by}
	text := cmp.Or(r.metricsQuery, "sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)")
	if values["LabelMatchers"] == "" {
		text = noMatchers.ReplaceAllString(text, "")
	}
	return strings.TrimSpace(placeholder.ReplaceAllStringFunc(text, func(match string) string {
		value, ok := values[placeholder.FindStringSubmatch(match)[1]]
		if !ok {
			return match
		}
		return value
	}))
}

var (
	placeholder = regexp.MustCompile(`<<\s*\.(\w+)\s*>>`)
	// noMatchers matches the placeholder and the comma after it, for an empty value.
	noMatchers = regexp.MustCompile(`<<\s*\.LabelMatchers\s*>>\s*,?`)
)

// replicas matches a query for the replicas of a workload in kube-state-metrics.
var replicas = regexp.MustCompile(`^(?:(?:sum|max|avg)\s*\()?\s*kube_(deployment|statefulset)_(?:status_replicas|spec_replicas|replicas)(?:_available|_ready|_current)?\s*(?:\{[^}]*\})?\s*\)?\s*(?:by \(\))?$`)

// leader returns the workload whose replicas the metric counts, as a value of the key follow.
func (r metricRule) leader(more map[string]string) (string, bool) {
	text := r.query("", more, "")
	match := replicas.FindStringSubmatch(text)
	if match == nil {
		return "", false
	}
	name := regexp.MustCompile(`\b` + match[1] + `\s*=\s*"([^"]+)"`).FindStringSubmatch(text + r.labels(more))
	if name == nil {
		return "", false
	}
	if match[1] == "statefulset" {
		return "statefulset/" + name[1], true
	}
	return name[1], true
}
