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

// namespaceLabel is the label that restricts the rule to the HPA's namespace; empty if none
// does.
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

// ReadAdapter reads the values of prometheus-adapter's chart, or its configuration file, whose
// rules are a list. The error names the file.
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
		err = errors.New("no rules; wanted: the values of prometheus-adapter's chart, or its configuration")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return a, nil
}

// address is the Prometheus that the adapter queries.
func (a *Adapter) address() string {
	if a == nil || a.prometheus.URL == "" {
		return ""
	}
	address := strings.TrimSuffix(a.prometheus.URL, "/")
	if !strings.Contains(strings.TrimPrefix(strings.TrimPrefix(address, "http://"), "https://"), ":") {
		// A file of changed values does not contain the chart's default port.
		address += ":" + strconv.Itoa(cmp.Or(a.prometheus.Port, 9090))
	}
	return address + strings.TrimSuffix(a.prometheus.Path, "/")
}

// metricRule is the adapter's rule for one metric. Without a rule, the series has the
// metric's name.
type metricRule struct {
	series       string   // its name
	matchers     []string // of its labels
	metricsQuery string
	// namespaceLabel restricts it to the HPA's namespace; empty: nothing does.
	namespaceLabel string
}

// plain reports whether the rule only aggregates the series, over pods or over time.
func (r metricRule) plain() bool {
	return r.metricsQuery == "" || plainQuery.MatchString(r.metricsQuery)
}

var plainQuery = regexp.MustCompile(`^\s*(sum|avg|max|avg_over_time|max_over_time|\(|\s|<<\s*\.(Series|GroupBy)\s*>>|\{\s*<<\s*\.LabelMatchers\s*>>\s*\}|\[\w+\]|by|\))*\s*$`)

// ofPods finds the rule of a metric of pods.
func (a *Adapter) ofPods(metric string) (metricRule, bool) {
	if a == nil {
		return metricRule{series: metric}, false
	}
	return find(a.custom, metric)
}

// ofCluster finds the rule of an external metric, or of an object's.
func (a *Adapter) ofCluster(metric string, object bool) (metricRule, bool) {
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

// splitSelector splits name{a="b",c!=""}. It drops matchers that only require a label, as
// the adapter's rules have them to find series.
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

// rename is the name of the metric that the adapter makes of the series.
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

// group is a reference to a group. Go's own needs braces before a letter or a digit.
var group = regexp.MustCompile(`\$(\d+)`)

// labels are the rule's matchers and more, separated by commas.
func (r metricRule) labels(more map[string]string) string {
	matchers := slices.Clone(r.matchers)
	for _, name := range slices.Sorted(maps.Keys(more)) {
		matchers = append(matchers, fmt.Sprintf("%s=%q", name, more[name]))
	}
	return strings.Join(matchers, ",")
}

// query is the rule's query for one workload, grouped by a label, or with an empty one as a
// single number.
func (r metricRule) query(by string, more map[string]string, namespace string) string {
	if namespace != "" && r.namespaceLabel != "" {
		more = maps.Clone(more)
		if more == nil {
			more = map[string]string{}
		}
		more[r.namespaceLabel] = namespace
	}
	fill := map[string]string{"Series": r.series, "LabelMatchers": r.labels(more), "GroupBy": by}
	text := cmp.Or(r.metricsQuery, "sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)")
	if fill["LabelMatchers"] == "" {
		text = noMatchers.ReplaceAllString(text, "")
	}
	return strings.TrimSpace(placeholder.ReplaceAllStringFunc(text, func(found string) string {
		value, ok := fill[placeholder.FindStringSubmatch(found)[1]]
		if !ok {
			return found
		}
		return value
	}))
}

var (
	placeholder = regexp.MustCompile(`<<\s*\.(\w+)\s*>>`)
	// noMatchers is the placeholder, with the comma that has to go with it if it is empty.
	noMatchers = regexp.MustCompile(`<<\s*\.LabelMatchers\s*>>\s*,?`)
)

// replicas is a query of nothing but kube-state-metrics' replicas of a workload.
var replicas = regexp.MustCompile(`^(?:(?:sum|max|avg)\s*\()?\s*kube_(deployment|statefulset)_(?:status_replicas|spec_replicas|replicas)(?:_available|_ready|_current)?\s*(?:\{[^}]*\})?\s*\)?\s*(?:by \(\))?$`)

// leader is the workload whose replicas the metric counts, as a value of the follow key.
func (r metricRule) leader(more map[string]string) (string, bool) {
	text := r.query("", more, "")
	found := replicas.FindStringSubmatch(text)
	if found == nil {
		return "", false
	}
	name := regexp.MustCompile(`\b` + found[1] + `\s*=\s*"([^"]+)"`).FindStringSubmatch(text + r.labels(more))
	if name == nil {
		return "", false
	}
	if found[1] == "statefulset" {
		return "statefulset/" + name[1], true
	}
	return name[1], true
}
