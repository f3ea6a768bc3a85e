package check

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
	"github.com/inference-scaler/inference-scaler/scaler/preset"
	"github.com/inference-scaler/inference-scaler/scaler/trigger"
)

// ErrNoHPA: there is none among the documents.
var ErrNoHPA = errors.New("no HorizontalPodAutoscaler among what was given")

// Replacement is how the ScaledObjects that take HPAs' places are written.
type Replacement struct {
	// ScalerAddress is where KEDA finds the scaler.
	ScalerAddress string
	// Port is where the pods serve their metrics, 0 where it is not known and only
	// an engine's own will do.
	Port int
	// Adapter is prometheus-adapter's configuration, nil without one.
	Adapter *Adapter
}

// Replace writes the ScaledObject that takes each HPA's place, as YAML, with what a
// person should know of it as comments. Open are the questions that are left, and
// without an answer to which the text is not complete. The error names the HPAs that
// have no place in the text.
func (r Replacement) Replace(docs []*Document) (text []byte, open []string, err error) {
	var out bytes.Buffer
	var refused []error
	taken := map[string]string{} // names of ScaledObjects, and the workload that each is for
	for _, doc := range docs {
		if doc.kind != "HorizontalPodAutoscaler" {
			continue
		}
		c := conversion{Replacement: r, doc: doc, engines: map[string]string{}}
		so, err := c.scaledObject(taken)
		if err != nil {
			refused = append(refused, fmt.Errorf("%s: %s: %w", doc.file, doc, err))
			continue
		}
		if out.Len() > 0 {
			out.WriteString("---\n")
		}
		if err := c.write(&out, so); err != nil {
			return nil, nil, err
		}
		for _, q := range c.open {
			open = append(open, doc.String()+": "+q)
		}
	}
	if out.Len() == 0 && refused == nil {
		return nil, nil, ErrNoHPA
	}
	return out.Bytes(), open, errors.Join(refused...)
}

// conversion of one HPA.
type conversion struct {
	Replacement
	doc         *Document
	target      string            // the workload's name
	engines     map[string]string // that have a trigger, and the metric it is for
	notes, open []string
}

// The ScaledObject as it is written, in the order that people write it in.
type newScaledObject struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct {
		Name        string
		Namespace   string            `yaml:",omitempty"`
		Labels      map[string]string `yaml:",omitempty"`
		Annotations map[string]string
	}
	Spec struct {
		ScaleTargetRef  newTarget `yaml:"scaleTargetRef"`
		MinReplicaCount int       `yaml:"minReplicaCount"`
		MaxReplicaCount int       `yaml:"maxReplicaCount"`
		Advanced        struct {
			HPA struct {
				Name     string
				Behavior yaml.Node
			} `yaml:"horizontalPodAutoscalerConfig"`
		}
		Triggers []newTrigger
	}
}

type newTarget struct {
	APIVersion string `yaml:"apiVersion,omitempty"`
	Kind, Name string
}

type newTrigger struct {
	Type       string
	MetricType string `yaml:"metricType,omitempty"`
	Metadata   yaml.Node
}

// scaledObject is what takes the HPA's place, under a name that is not taken yet.
func (c *conversion) scaledObject(taken map[string]string) (*newScaledObject, error) {
	var hpa struct{ Spec hpaSpec }
	var wrong []error
	c.doc.decode(&hpa, func(line int, text string) { wrong = append(wrong, fmt.Errorf("line %d: %s", line, text)) })
	if len(wrong) > 0 {
		return nil, errors.Join(wrong...)
	}
	if len(hpa.Spec.Metrics) == 0 {
		return nil, errors.New("no spec.metrics; wanted: an HPA of autoscaling/v2")
	}
	so := &newScaledObject{APIVersion: "keda.sh/v1alpha1", Kind: "ScaledObject"}
	so.Metadata.Name, so.Metadata.Namespace = c.name(hpa.Spec.ScaleTargetRef, taken), c.doc.meta.Namespace
	so.Metadata.Labels = c.doc.meta.Labels // which KEDA gives the HPA back
	so.Metadata.Annotations = map[string]string{"scaledobject.keda.sh/transfer-hpa-ownership": "true"}
	if left := slices.Sorted(maps.Keys(c.doc.meta.Annotations)); len(left) > 0 {
		c.notef("annotations are not carried over, as most are tools' own notes: %s", strings.Join(left, ", "))
	}
	so.Spec.ScaleTargetRef = newTarget{hpa.Spec.ScaleTargetRef.APIVersion, hpa.Spec.ScaleTargetRef.Kind, hpa.Spec.ScaleTargetRef.Name}
	c.target = hpa.Spec.ScaleTargetRef.Name
	so.Spec.MinReplicaCount = or(hpa.Spec.MinReplicas, 1)
	if so.Spec.MinReplicaCount == 0 {
		c.openf("minReplicas: 0: at zero replicas nothing shows demand but an upstream (examples/scale-to-zero)")
	}
	so.Spec.MaxReplicaCount = hpa.Spec.MaxReplicas
	so.Spec.Advanced.HPA.Name = c.doc.meta.Name
	so.Spec.Advanced.HPA.Behavior = withTolerance(hpa.Spec.Behavior)
	for _, m := range hpa.Spec.Metrics {
		if t, ok := c.trigger(m); ok && !slices.ContainsFunc(so.Spec.Triggers, t.equal) {
			so.Spec.Triggers = append(so.Spec.Triggers, t)
		}
	}
	return so, nil
}

// name is the workload's, with its kind where two kinds of one namespace share it.
func (c *conversion) name(target targetRef, taken map[string]string) string {
	kind := strings.ToLower(target.kind())
	workload := kind + "/" + target.Name
	for _, name := range []string{target.Name, target.Name + "-" + kind} {
		key := c.doc.meta.Namespace + "/" + name
		if _, is := taken[key]; !is {
			taken[key] = workload
			return name
		}
		if taken[key] == workload {
			c.openf("another HPA sizes %s %s too: KEDA takes one ScaledObject, with the triggers of both", target.kind(), target.Name)
			return name
		}
	}
	c.openf("the name %s-%s is another ScaledObject's", target.Name, kind)
	return target.Name
}

// write adds the ScaledObject, with what there is to know of it.
func (c *conversion) write(out *bytes.Buffer, so *newScaledObject) error {
	for _, note := range append(c.notes, c.open...) {
		fmt.Fprintf(out, "# %s\n", strings.Join(strings.Fields(note), " "))
	}
	enc := yaml.NewEncoder(out)
	enc.SetIndent(2)
	if err := enc.Encode(so); err != nil {
		return err
	}
	return enc.Close()
}

func (t newTrigger) equal(other newTrigger) bool {
	a, _ := yaml.Marshal(t)
	b, _ := yaml.Marshal(other)
	return bytes.Equal(a, b)
}

func (c *conversion) trigger(m hpaMetric) (newTrigger, bool) {
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
	c.openf("a metric of type %s is not known", m.Type)
	return newTrigger{}, false
}

// resource is what KEDA passes on to the HPA as it is.
func (c *conversion) resource(m *resourceMetric) (newTrigger, bool) {
	value := m.Target.AverageValue
	if m.Target.Type == "Utilization" {
		value = strconv.Itoa(m.Target.AverageUtilization)
	}
	pairs := []string{"value", value}
	if m.Container != "" {
		pairs = append(pairs, "containerName", m.Container)
	}
	return newTrigger{Type: m.Name, MetricType: m.Target.Type, Metadata: keyed(pairs...)}, true
}

// ofPods is a metric that each pod has: an engine's, or read by a query.
func (c *conversion) ofPods(m *customMetric) (newTrigger, bool) {
	target, ok := c.average(m)
	if !ok {
		return newTrigger{}, false
	}
	rule, found := c.Adapter.ofPods(m.Metric.Name)
	if engine, ok := engineOf(rule.series); ok && rule.plain() {
		return c.ofEngine(m, rule, engine, target), true
	}
	if !found {
		c.openf("metric %s: which series of the pods it is, no rule of prometheus-adapter tells; the one of its name is taken", m.Metric.Name)
	}
	query := rule.query("pod", m.Metric.Selector.MatchLabels, "")
	return c.external(c.port("", "query", query, "target", target)...), true
}

// ofCluster is a metric that belongs to no pod: the replicas of a leader, an engine's
// sum, or what Prometheus is asked for.
func (c *conversion) ofCluster(m *customMetric) (newTrigger, bool) {
	target, ok := c.average(m)
	if !ok {
		return newTrigger{}, false
	}
	rule, found := c.Adapter.ofCluster(m.Metric.Name, m.DescribedObject.Name != "")
	if d := m.DescribedObject; d.Name != "" && d.Name != c.target && d.Kind != "Namespace" {
		c.openf("metric %s is of %s %s: whether the trigger means the same, no HPA tells", m.Metric.Name, d.Kind, d.Name)
	}
	if leader, ok := rule.leader(m.Metric.Selector.MatchLabels); ok {
		return c.external("follow", leader, "ratio", target), true
	}
	if engine, ok := engineOf(rule.series); ok && rule.plain() {
		return c.ofEngine(m, rule, engine, target), true
	}
	if !found || c.Adapter.address() == "" {
		c.openf("metric %s: what it is, prometheus-adapter's values tell; give them as a second file, with prometheus.url", m.Metric.Name)
		return newTrigger{}, false
	}
	if c.doc.meta.Namespace == "" && rule.namespaceLabel != "" {
		c.openf("metric %s: the HPA names no namespace, and the query asks for all", m.Metric.Name)
	}
	query := rule.query("", m.Metric.Selector.MatchLabels, c.doc.meta.Namespace)
	c.notef("%s must be allowed: serve --upstream-allow", c.Adapter.address())
	return c.external("query", query, "target", target, "prometheusAddress", c.Adapter.address()), true
}

// ofEngine is the engine's trigger, with what it does other than the metric did.
func (c *conversion) ofEngine(m *customMetric, rule metricRule, engine, target string) newTrigger {
	c.notef("%s is part of what engine %s counts, read from the pods themselves (inference-scaler why shows all of it)", rule.series, engine)
	if len(m.Metric.Selector.MatchLabels)+len(rule.matchers) > 0 {
		c.openf("metric %s had a selector: engine %s counts all that a pod has, whatever its labels", m.Metric.Name, engine)
	}
	if other, twice := c.engines[engine]; twice {
		c.openf("metrics %s and %s are both part of what engine %s counts: one target for all of it is wanted", other, m.Metric.Name, engine)
	}
	c.engines[engine] = m.Metric.Name
	return c.external(c.port(engine, "engine", engine, "target", target)...)
}

// average is the target, in plain digits; an HPA with any other multiplies by its ready pods.
func (c *conversion) average(m *customMetric) (string, bool) {
	if m.Target.Type != "AverageValue" || m.Target.AverageValue == "" {
		c.openf("metric %s has a target of type %s: how much each replica should carry is not known", m.Metric.Name, m.Target.Type)
		return "", false
	}
	if len(m.Metric.Selector.MatchExpressions) > 0 {
		c.openf("metric %s has a selector with matchExpressions, and matchLabels alone are carried over", m.Metric.Name)
	}
	quantity, err := resource.ParseQuantity(m.Target.AverageValue)
	if err != nil {
		c.openf("metric %s: averageValue %q: %v", m.Metric.Name, m.Target.AverageValue, err)
		return "", false
	}
	text := quantity.AsDec().String() // exact, where a float is not
	if strings.Contains(text, ".") {
		text = strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
	}
	return text, true
}

// external is a trigger of this scaler. What it would refuse of it is left open.
func (c *conversion) external(pairs ...string) newTrigger {
	pairs = append([]string{"scalerAddress", c.ScalerAddress}, pairs...)
	values := map[string]string{}
	for i := 0; i+1 < len(pairs); i += 2 {
		values[pairs[i]] = pairs[i+1]
	}
	var faults trigger.Faults
	if _, err := trigger.Parse(values); errors.As(err, &faults) {
		for _, f := range faults {
			if f.Key != "port" { // which is asked for already
				c.openf("%s", f)
			}
		}
	}
	return newTrigger{Type: "external-push", Metadata: keyed(pairs...)}
}

// port adds where the pods are read, where the engine does not say.
func (c *conversion) port(engine string, pairs ...string) []string {
	p, _ := preset.Lookup(engine)
	switch {
	case c.Port != 0:
		return append(pairs, "port", strconv.Itoa(c.Port))
	case p.Port == 0:
		c.openf("the port that the pods serve their metrics at is missing, which no HPA tells: --port")
	}
	return pairs
}

func (c *conversion) notef(format string, args ...any) {
	c.notes = append(c.notes, fmt.Sprintf(format, args...))
}

func (c *conversion) openf(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(c.open, text) {
		c.open = append(c.open, text)
	}
}

// engineOf is the one engine whose load, a count, the metric is part of.
func engineOf(metric string) (string, bool) {
	var engines []string
	for _, name := range preset.Names() {
		p, _ := preset.Lookup(name)
		query, err := metricsource.ParseQuery(p.Load.PromQL)
		if err != nil || strings.Contains(p.Load.PromQL, ") / ") {
			continue // a share of what a replica can carry: its target is of another unit
		}
		exact, match := metricsource.NewWant(metricsource.Idle{}, []*metricsource.Query{query}, nil).Names()
		if slices.Contains(exact, metric) || match != nil && match(metric) {
			engines = append(engines, name)
		}
	}
	if len(engines) != 1 {
		return "", false
	}
	return engines[0], true
}
