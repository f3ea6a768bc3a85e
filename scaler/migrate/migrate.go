package migrate

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/inference-scaler/inference-scaler/metricsource"
	"github.com/inference-scaler/inference-scaler/scaler/manifest"
	"github.com/inference-scaler/inference-scaler/scaler/preset"
	"github.com/inference-scaler/inference-scaler/scaler/trigger"
)

// ErrNoHPA is the error for an input without HPAs.
var ErrNoHPA = errors.New("no HorizontalPodAutoscaler in the input")

// Options are values that an HPA does not contain.
type Options struct {
	// ScalerAddress is the HOST:PORT at which KEDA calls the scaler.
	ScalerAddress string
	// Port is the metrics port of the pods; 0 for the engine's default.
	Port int
	// Adapter is prometheus-adapter's configuration; nil without one.
	Adapter *Adapter
}

// HPAs converts the HPAs of the input to ScaledObjects, as YAML with notes as comments. The
// result is complete if there are no questions. The error names the HPAs that were not
// converted.
func HPAs(docs []*manifest.Document, o Options) (text []byte, questions []string, err error) {
	var out bytes.Buffer
	var failed []error
	workloads := map[string]string{} // by the namespace and name of the ScaledObject
	for _, doc := range docs {
		if doc.Kind != "HorizontalPodAutoscaler" {
			continue
		}
		c := conversion{Options: o, doc: doc, engines: map[string]string{}}
		so, err := c.convert(workloads)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %s: %w", doc.File, doc, err))
			continue
		}
		if out.Len() > 0 {
			out.WriteString("---\n")
		}
		if err := c.write(&out, so); err != nil {
			return nil, nil, err
		}
		for _, q := range c.questions {
			questions = append(questions, doc.String()+": "+q)
		}
	}
	if out.Len() == 0 && failed == nil {
		return nil, nil, ErrNoHPA
	}
	return out.Bytes(), questions, errors.Join(failed...)
}

// conversion is the conversion of one HPA.
type conversion struct {
	Options
	doc              *manifest.Document
	target           string            // name of the workload
	engines          map[string]string // metrics by the engine that counts them
	notes, questions []string
}

// scaledObject has the usual field order of a manifest.
type scaledObject struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct {
		Name        string
		Namespace   string            `yaml:",omitempty"`
		Labels      map[string]string `yaml:",omitempty"`
		Annotations map[string]string
	}
	Spec struct {
		ScaleTargetRef  target `yaml:"scaleTargetRef"`
		MinReplicaCount int    `yaml:"minReplicaCount"`
		MaxReplicaCount int    `yaml:"maxReplicaCount"`
		Advanced        struct {
			HPA struct {
				Name     string
				Behavior yaml.Node
			} `yaml:"horizontalPodAutoscalerConfig"`
		}
		Triggers []scaledTrigger
	}
}

type scaledTrigger struct {
	Type       string
	MetricType string `yaml:"metricType,omitempty"`
	Metadata   yaml.Node
}

// convert returns the ScaledObject.
func (c *conversion) convert(workloads map[string]string) (*scaledObject, error) {
	var hpa struct{ Spec hpaSpec }
	var mismatches []error
	c.doc.Decode(&hpa, func(line int, text string) { mismatches = append(mismatches, fmt.Errorf("line %d: %s", line, text)) })
	if len(mismatches) > 0 {
		return nil, errors.Join(mismatches...)
	}
	if len(hpa.Spec.Metrics) == 0 {
		return nil, errors.New("spec.metrics: missing; wanted: an HPA of autoscaling/v2")
	}
	so := &scaledObject{APIVersion: "keda.sh/v1alpha1", Kind: "ScaledObject"}
	so.Metadata.Name, so.Metadata.Namespace = c.name(hpa.Spec.ScaleTargetRef, workloads), c.doc.Metadata.Namespace
	so.Metadata.Labels = c.doc.Metadata.Labels // KEDA copies them to the HPA
	so.Metadata.Annotations = map[string]string{"scaledobject.keda.sh/transfer-hpa-ownership": "true"}
	if names := slices.Sorted(maps.Keys(c.doc.Metadata.Annotations)); len(names) > 0 {
		c.notef("annotations are not copied, because most belong to other tools: %s", strings.Join(names, ", "))
	}
	so.Spec.ScaleTargetRef = hpa.Spec.ScaleTargetRef
	c.target = hpa.Spec.ScaleTargetRef.Name
	so.Spec.MinReplicaCount = 1 // the HPA's default
	if hpa.Spec.MinReplicas != nil {
		so.Spec.MinReplicaCount = *hpa.Spec.MinReplicas
	}
	if so.Spec.MinReplicaCount == 0 {
		c.askf("minReplicas: 0; at zero replicas only an upstream shows demand; wanted: an upstream in the trigger (examples/scale-to-zero)")
	}
	so.Spec.MaxReplicaCount = hpa.Spec.MaxReplicas
	so.Spec.Advanced.HPA.Name = c.doc.Metadata.Name
	so.Spec.Advanced.HPA.Behavior = withTolerance(hpa.Spec.Behavior)
	for _, m := range hpa.Spec.Metrics {
		if t, ok := c.trigger(m); ok && !slices.ContainsFunc(so.Spec.Triggers, t.equal) {
			so.Spec.Triggers = append(so.Spec.Triggers, t)
		}
	}
	return so, nil
}

// name returns the workload's name. The kind is a suffix if a workload of another kind has the
// same name.
func (c *conversion) name(of target, workloads map[string]string) string {
	kind := strings.ToLower(of.Kind)
	workload := kind + "/" + of.Name
	for _, name := range []string{of.Name, of.Name + "-" + kind} {
		key := c.doc.Metadata.Namespace + "/" + name
		if _, exists := workloads[key]; !exists {
			workloads[key] = workload
			return name
		}
		if workloads[key] == workload {
			c.askf("another HPA also scales %s %s; wanted: one ScaledObject with the triggers of both", of.Kind, of.Name)
			return name
		}
	}
	c.askf("another ScaledObject has the name %s-%s; wanted: an unused name", of.Name, kind)
	return of.Name
}

// write writes the notes, the questions and the ScaledObject.
func (c *conversion) write(out *bytes.Buffer, so *scaledObject) error {
	for _, note := range append(c.notes, c.questions...) {
		fmt.Fprintf(out, "# %s\n", strings.Join(strings.Fields(note), " "))
	}
	enc := yaml.NewEncoder(out)
	enc.SetIndent(2)
	if err := enc.Encode(so); err != nil {
		return err
	}
	return enc.Close()
}

func (t scaledTrigger) equal(other scaledTrigger) bool {
	a, _ := yaml.Marshal(t)
	b, _ := yaml.Marshal(other)
	return bytes.Equal(a, b)
}

func (c *conversion) trigger(m hpaMetric) (scaledTrigger, bool) {
	switch {
	case m.Resource != nil:
		return c.resource(m.Resource)
	case m.ContainerResource != nil:
		return c.resource(m.ContainerResource)
	case m.Pods != nil:
		return c.pods(m.Pods)
	case m.External != nil:
		return c.cluster(m.External)
	case m.Object != nil:
		return c.cluster(m.Object)
	}
	c.askf("metric type %q is not supported; wanted: Resource, ContainerResource, Pods, Object or External", m.Type)
	return scaledTrigger{}, false
}

// resource returns a trigger for CPU or memory, which KEDA copies to the HPA.
func (c *conversion) resource(m *resourceMetric) (scaledTrigger, bool) {
	value := m.Target.AverageValue
	if m.Target.Type == "Utilization" {
		value = strconv.Itoa(m.Target.AverageUtilization)
	}
	pairs := []string{"value", value}
	if m.Container != "" {
		pairs = append(pairs, "containerName", m.Container)
	}
	return scaledTrigger{Type: m.Name, MetricType: m.Target.Type, Metadata: metadata(pairs...)}, true
}

// pods returns the trigger for a Pods metric: the engine's, or one with a query.
func (c *conversion) pods(m *customMetric) (scaledTrigger, bool) {
	target, ok := c.averageValue(m)
	if !ok {
		return scaledTrigger{}, false
	}
	rule, found := c.Adapter.podRule(m.Metric.Name)
	if engine, ok := engineOf(rule.series); ok && rule.plain() {
		return c.engine(m, rule, engine, target), true
	}
	if !found {
		c.askf("metric %s: no rule of prometheus-adapter names its series; the query uses %[1]s", m.Metric.Name)
	}
	query := rule.query("pod", m.Metric.Selector.MatchLabels, "")
	return c.external(c.port("", "query", query, "target", target)...), true
}

// cluster returns the trigger for an External or an Object metric: one that follows a leader, the
// engine's, or one with a query to Prometheus.
func (c *conversion) cluster(m *customMetric) (scaledTrigger, bool) {
	target, ok := c.averageValue(m)
	if !ok {
		return scaledTrigger{}, false
	}
	rule, found := c.Adapter.clusterRule(m.Metric.Name, m.DescribedObject.Name != "")
	if d := m.DescribedObject; d.Name != "" && d.Name != c.target && d.Kind != "Namespace" {
		c.askf("metric %s describes %s %s; check that the trigger counts the same", m.Metric.Name, d.Kind, d.Name)
	}
	if leader, ok := rule.leader(m.Metric.Selector.MatchLabels); ok {
		return c.external("follow", leader, "ratio", target), true
	}
	if engine, ok := engineOf(rule.series); ok && rule.plain() {
		return c.engine(m, rule, engine, target), true
	}
	if !found || c.Adapter.address() == "" {
		c.askf("metric %s: its query or its Prometheus is unknown; wanted: the values of prometheus-adapter with prometheus.url, as a second file", m.Metric.Name)
		return scaledTrigger{}, false
	}
	if c.doc.Metadata.Namespace == "" && rule.namespaceLabel != "" {
		c.askf("metric %s: the HPA has no namespace, so the query selects all namespaces; wanted: a namespace", m.Metric.Name)
	}
	query := rule.query("", m.Metric.Selector.MatchLabels, c.doc.Metadata.Namespace)
	c.notef("serve needs --upstream-allow for %s", c.Adapter.address())
	return c.external("query", query, "target", target, "prometheusAddress", c.Adapter.address()), true
}

// engine returns the engine's trigger. Notes and questions list differences from the metric.
func (c *conversion) engine(m *customMetric, rule metricRule, name, target string) scaledTrigger {
	c.notef("%s is part of the load of engine %s, which the scaler reads from the pods (inference-scaler why lists all parts)", rule.series, name)
	if len(m.Metric.Selector.MatchLabels)+len(rule.matchers) > 0 {
		c.askf("metric %s has a selector; engine %s counts the series with any labels", m.Metric.Name, name)
	}
	if other, exists := c.engines[name]; exists {
		c.askf("metrics %s and %s are both part of the load of engine %s; wanted: one target for their sum", other, m.Metric.Name, name)
	}
	c.engines[name] = m.Metric.Name
	return c.external(c.port(name, "engine", name, "target", target)...)
}

// averageValue returns the target in decimal digits. Any other target type depends on the number
// of ready pods, and has no equivalent.
func (c *conversion) averageValue(m *customMetric) (string, bool) {
	if m.Target.Type != "AverageValue" || m.Target.AverageValue == "" {
		c.askf("metric %s: target type %s; wanted: AverageValue with the load per replica", m.Metric.Name, m.Target.Type)
		return "", false
	}
	if len(m.Metric.Selector.MatchExpressions) > 0 {
		c.askf("metric %s: matchExpressions of its selector are not copied; wanted: matchLabels", m.Metric.Name)
	}
	quantity, err := resource.ParseQuantity(m.Target.AverageValue)
	if err != nil {
		c.askf("metric %s: averageValue: %q; wanted: a quantity (%v)", m.Metric.Name, m.Target.AverageValue, err)
		return "", false
	}
	text := quantity.AsDec().String() // exact, unlike a float
	if strings.Contains(text, ".") {
		text = strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
	}
	return text, true
}

// external returns a trigger of this scaler. Errors of its metadata become questions.
func (c *conversion) external(pairs ...string) scaledTrigger {
	pairs = append([]string{"scalerAddress", c.ScalerAddress}, pairs...)
	values := map[string]string{}
	for i := 0; i+1 < len(pairs); i += 2 {
		values[pairs[i]] = pairs[i+1]
	}
	var faults trigger.Faults
	if _, err := trigger.Parse(values); errors.As(err, &faults) {
		for _, f := range faults {
			if f.Key != "port" { // c.port adds this question
				c.askf("%s", f)
			}
		}
	}
	return scaledTrigger{Type: "external-push", Metadata: metadata(pairs...)}
}

// port adds the port of the options to the metadata. Without one, a missing default of the engine
// becomes a question.
func (c *conversion) port(engine string, pairs ...string) []string {
	p, _ := preset.Lookup(engine)
	switch {
	case c.Port != 0:
		return append(pairs, "port", strconv.Itoa(c.Port))
	case p.Port == 0:
		c.askf("port: missing, because an HPA does not contain it; wanted: --port with the metrics port of the pods")
	}
	return pairs
}

func (c *conversion) notef(format string, args ...any) {
	c.notes = append(c.notes, fmt.Sprintf(format, args...))
}

func (c *conversion) askf(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(c.questions, text) {
		c.questions = append(c.questions, text)
	}
}

// engineOf returns the engine whose load counts the metric, if there is exactly one.
func engineOf(metric string) (string, bool) {
	var engines []string
	for _, name := range preset.Names() {
		p, _ := preset.Lookup(name)
		query, err := metricsource.ParseQuery(p.Load.PromQL)
		if err != nil || strings.Contains(p.Load.PromQL, ") / ") {
			continue // a ratio of a replica's capacity has a target in another unit
		}
		exact, match := metricsource.NewSelection(metricsource.Idle{}, []*metricsource.Query{query}, nil).Names()
		if slices.Contains(exact, metric) || match != nil && match(metric) {
			engines = append(engines, name)
		}
	}
	if len(engines) != 1 {
		return "", false
	}
	return engines[0], true
}
