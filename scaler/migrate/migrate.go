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

// ErrNoHPA: there is none among the documents.
var ErrNoHPA = errors.New("no HorizontalPodAutoscaler among what was given")

// Options are what an HPA does not contain.
type Options struct {
	// ScalerAddress is the HOST:PORT at which KEDA calls the scaler.
	ScalerAddress string
	// Port is where the pods serve their metrics; 0 for the engine's default.
	Port int
	// Adapter is prometheus-adapter's configuration; nil without one.
	Adapter *Adapter
}

// HPAs returns the ScaledObjects that replace the HPAs among the documents, as YAML with
// notes as comments. The text is not complete before the questions are answered. The error
// names the HPAs that the text leaves out.
func HPAs(docs []*manifest.Document, o Options) (text []byte, questions []string, err error) {
	var out bytes.Buffer
	var refused []error
	taken := map[string]string{} // names of ScaledObjects, and the workload of each
	for _, doc := range docs {
		if doc.Kind != "HorizontalPodAutoscaler" {
			continue
		}
		c := conversion{Options: o, doc: doc, engines: map[string]string{}}
		so, err := c.convert(taken)
		if err != nil {
			refused = append(refused, fmt.Errorf("%s: %s: %w", doc.File, doc, err))
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
	if out.Len() == 0 && refused == nil {
		return nil, nil, ErrNoHPA
	}
	return out.Bytes(), questions, errors.Join(refused...)
}

// conversion is that of one HPA.
type conversion struct {
	Options
	doc              *manifest.Document
	target           string            // the workload's name
	engines          map[string]string // that have a trigger, and the metric of each
	notes, questions []string
}

// scaledObject has its fields in the usual order of a manifest.
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

// convert returns the ScaledObject, under a name that is not taken yet.
func (c *conversion) convert(taken map[string]string) (*scaledObject, error) {
	var hpa struct{ Spec hpaSpec }
	var wrong []error
	c.doc.Decode(&hpa, func(line int, text string) { wrong = append(wrong, fmt.Errorf("line %d: %s", line, text)) })
	if len(wrong) > 0 {
		return nil, errors.Join(wrong...)
	}
	if len(hpa.Spec.Metrics) == 0 {
		return nil, errors.New("no spec.metrics; wanted: an HPA of autoscaling/v2")
	}
	so := &scaledObject{APIVersion: "keda.sh/v1alpha1", Kind: "ScaledObject"}
	so.Metadata.Name, so.Metadata.Namespace = c.name(hpa.Spec.ScaleTargetRef, taken), c.doc.Metadata.Namespace
	so.Metadata.Labels = c.doc.Metadata.Labels // KEDA copies them to the HPA
	so.Metadata.Annotations = map[string]string{"scaledobject.keda.sh/transfer-hpa-ownership": "true"}
	if left := slices.Sorted(maps.Keys(c.doc.Metadata.Annotations)); len(left) > 0 {
		c.notef("annotations are not carried over, as most are tools' own notes: %s", strings.Join(left, ", "))
	}
	so.Spec.ScaleTargetRef = hpa.Spec.ScaleTargetRef
	c.target = hpa.Spec.ScaleTargetRef.Name
	so.Spec.MinReplicaCount = 1 // the HPA's default
	if hpa.Spec.MinReplicas != nil {
		so.Spec.MinReplicaCount = *hpa.Spec.MinReplicas
	}
	if so.Spec.MinReplicaCount == 0 {
		c.askf("minReplicas: 0: at zero replicas nothing shows demand but an upstream (examples/scale-to-zero)")
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

// name is the workload's, with its kind as a suffix if another kind has taken it.
func (c *conversion) name(of target, taken map[string]string) string {
	kind := strings.ToLower(of.Kind)
	workload := kind + "/" + of.Name
	for _, name := range []string{of.Name, of.Name + "-" + kind} {
		key := c.doc.Metadata.Namespace + "/" + name
		if _, is := taken[key]; !is {
			taken[key] = workload
			return name
		}
		if taken[key] == workload {
			c.askf("another HPA sizes %s %s too: KEDA takes one ScaledObject, with the triggers of both", of.Kind, of.Name)
			return name
		}
	}
	c.askf("the name %s-%s is another ScaledObject's", of.Name, kind)
	return of.Name
}

// write adds the ScaledObject, below its notes and questions.
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
		return c.ofPods(m.Pods)
	case m.External != nil:
		return c.ofCluster(m.External)
	case m.Object != nil:
		return c.ofCluster(m.Object)
	}
	c.askf("a metric of type %s is not known", m.Type)
	return scaledTrigger{}, false
}

// resource is a trigger for CPU or memory, which KEDA copies to the HPA.
func (c *conversion) resource(m *resourceMetric) (scaledTrigger, bool) {
	value := m.Target.AverageValue
	if m.Target.Type == "Utilization" {
		value = strconv.Itoa(m.Target.AverageUtilization)
	}
	pairs := []string{"value", value}
	if m.Container != "" {
		pairs = append(pairs, "containerName", m.Container)
	}
	return scaledTrigger{Type: m.Name, MetricType: m.Target.Type, Metadata: keyed(pairs...)}, true
}

// ofPods is a trigger for a metric of each pod: an engine's, or a query.
func (c *conversion) ofPods(m *customMetric) (scaledTrigger, bool) {
	target, ok := c.average(m)
	if !ok {
		return scaledTrigger{}, false
	}
	rule, found := c.Adapter.ofPods(m.Metric.Name)
	if engine, ok := engineOf(rule.series); ok && rule.plain() {
		return c.ofEngine(m, rule, engine, target), true
	}
	if !found {
		c.askf("metric %s: which series of the pods it is, no rule of prometheus-adapter tells; the one of its name is taken", m.Metric.Name)
	}
	query := rule.query("pod", m.Metric.Selector.MatchLabels, "")
	return c.external(c.port("", "query", query, "target", target)...), true
}

// ofCluster is a trigger for a metric of no particular pod: the replicas of a leader, an
// engine's sum, or a query to Prometheus.
func (c *conversion) ofCluster(m *customMetric) (scaledTrigger, bool) {
	target, ok := c.average(m)
	if !ok {
		return scaledTrigger{}, false
	}
	rule, found := c.Adapter.ofCluster(m.Metric.Name, m.DescribedObject.Name != "")
	if d := m.DescribedObject; d.Name != "" && d.Name != c.target && d.Kind != "Namespace" {
		c.askf("metric %s is of %s %s: whether the trigger means the same, no HPA tells", m.Metric.Name, d.Kind, d.Name)
	}
	if leader, ok := rule.leader(m.Metric.Selector.MatchLabels); ok {
		return c.external("follow", leader, "ratio", target), true
	}
	if engine, ok := engineOf(rule.series); ok && rule.plain() {
		return c.ofEngine(m, rule, engine, target), true
	}
	if !found || c.Adapter.address() == "" {
		c.askf("metric %s: what it is, prometheus-adapter's values tell; give them as a second file, with prometheus.url", m.Metric.Name)
		return scaledTrigger{}, false
	}
	if c.doc.Metadata.Namespace == "" && rule.namespaceLabel != "" {
		c.askf("metric %s: the HPA names no namespace, and the query asks for all", m.Metric.Name)
	}
	query := rule.query("", m.Metric.Selector.MatchLabels, c.doc.Metadata.Namespace)
	c.notef("%s must be allowed: serve --upstream-allow", c.Adapter.address())
	return c.external("query", query, "target", target, "prometheusAddress", c.Adapter.address()), true
}

// ofEngine is the engine's trigger, with notes on how it differs from the metric.
func (c *conversion) ofEngine(m *customMetric, rule metricRule, engine, target string) scaledTrigger {
	c.notef("%s is part of what engine %s counts, read from the pods themselves (inference-scaler why shows all of it)", rule.series, engine)
	if len(m.Metric.Selector.MatchLabels)+len(rule.matchers) > 0 {
		c.askf("metric %s had a selector: engine %s counts all that a pod has, whatever its labels", m.Metric.Name, engine)
	}
	if other, twice := c.engines[engine]; twice {
		c.askf("metrics %s and %s are both part of what engine %s counts: one target for all of it is wanted", other, m.Metric.Name, engine)
	}
	c.engines[engine] = m.Metric.Name
	return c.external(c.port(engine, "engine", engine, "target", target)...)
}

// average is the target in decimal digits. Any target type but AverageValue depends on the
// number of ready pods, and has no equivalent.
func (c *conversion) average(m *customMetric) (string, bool) {
	if m.Target.Type != "AverageValue" || m.Target.AverageValue == "" {
		c.askf("metric %s has a target of type %s: how much each replica should carry is not known", m.Metric.Name, m.Target.Type)
		return "", false
	}
	if len(m.Metric.Selector.MatchExpressions) > 0 {
		c.askf("metric %s has a selector with matchExpressions, and matchLabels alone are carried over", m.Metric.Name)
	}
	quantity, err := resource.ParseQuantity(m.Target.AverageValue)
	if err != nil {
		c.askf("metric %s: averageValue %q: %v", m.Metric.Name, m.Target.AverageValue, err)
		return "", false
	}
	text := quantity.AsDec().String() // exact, where a float is not
	if strings.Contains(text, ".") {
		text = strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
	}
	return text, true
}

// external is a trigger of this scaler. An error of its metadata becomes a question.
func (c *conversion) external(pairs ...string) scaledTrigger {
	pairs = append([]string{"scalerAddress", c.ScalerAddress}, pairs...)
	values := map[string]string{}
	for i := 0; i+1 < len(pairs); i += 2 {
		values[pairs[i]] = pairs[i+1]
	}
	var faults trigger.Faults
	if _, err := trigger.Parse(values); errors.As(err, &faults) {
		for _, f := range faults {
			if f.Key != "port" { // port has asked already
				c.askf("%s", f)
			}
		}
	}
	return scaledTrigger{Type: "external-push", Metadata: keyed(pairs...)}
}

// port adds the port to the metadata if it is given, and asks for it if the engine has no
// default.
func (c *conversion) port(engine string, pairs ...string) []string {
	p, _ := preset.Lookup(engine)
	switch {
	case c.Port != 0:
		return append(pairs, "port", strconv.Itoa(c.Port))
	case p.Port == 0:
		c.askf("the port that the pods serve their metrics at is missing, which no HPA tells: --port")
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

// engineOf is the only engine whose load counts the metric.
func engineOf(metric string) (string, bool) {
	var engines []string
	for _, name := range preset.Names() {
		p, _ := preset.Lookup(name)
		query, err := metricsource.ParseQuery(p.Load.PromQL)
		if err != nil || strings.Contains(p.Load.PromQL, ") / ") {
			continue // a ratio of the replica's capacity: its target has another unit
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
