package check

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/inference-scaler/inference-scaler/scaler/manifest"
	"github.com/inference-scaler/inference-scaler/scaler/trigger"
)

// Severity is the severity of a finding.
type Severity string

// An Error makes scaling fail; a Warning does so under some conditions.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Finding is one fault.
type Finding struct {
	File     string   `json:"file"` // empty for an object from a cluster
	Line     int      `json:"line"` // from 1; 0 without a file
	Severity Severity `json:"severity"`
	Rule     string   `json:"rule"`
	Object   string   `json:"object"` // "ScaledObject namespace/name"
	Message  string   `json:"message"`
}

// Report is the result of a check.
type Report struct {
	Findings []Finding `json:"findings"` // sorted by file and line
	// ScaledObjects is the number of ScaledObjects with a trigger of this scaler.
	ScaledObjects int `json:"scaledObjects"`
	// WithoutWorkload lists the workloads that are not in the input, each with its ScaledObject.
	WithoutWorkload []string `json:"withoutWorkload"`
}

// Options are values that manifests do not contain. A zero field has its default.
type Options struct {
	// LongestRequest is the time that a pod needs to finish its requests.
	LongestRequest time.Duration
	// ModelLoad is the time until a pod without a startup probe is ready.
	ModelLoad time.Duration
	// Burst is the longest acceptable time to scale from the minimum to the maximum.
	Burst time.Duration
	// Complete: a workload that is not in the input does not exist.
	Complete bool
}

// The defaults of Options.
const (
	DefaultLongestRequest = time.Minute
	DefaultModelLoad      = 2 * time.Minute
	DefaultBurst          = 2 * time.Minute
)

func (o Options) defaults() Options {
	o.LongestRequest = cmp.Or(o.LongestRequest, DefaultLongestRequest)
	o.ModelLoad = cmp.Or(o.ModelLoad, DefaultModelLoad)
	o.Burst = cmp.Or(o.Burst, DefaultBurst)
	return o
}

// Check applies all rules to each ScaledObject that has a trigger of this scaler.
func Check(docs []*manifest.Document, o Options) Report {
	report := Report{Findings: []Finding{}, WithoutWorkload: []string{}}
	for _, doc := range docs {
		if doc.Kind != "ScaledObject" {
			continue
		}
		s := newSubject(doc, docs, o.defaults())
		if len(s.triggers) == 0 {
			if s.malformed { // its triggers may be malformed too
				report.Findings = append(report.Findings, s.drain()...)
			}
			continue
		}
		report.ScaledObjects++
		if s.workload == nil {
			report.WithoutWorkload = append(report.WithoutWorkload, fmt.Sprintf("%s of %s", s.spec.ScaleTargetRef, doc))
		}
		report.Findings = append(report.Findings, s.drain()...)
		if s.malformed { // the rules would see zero values
			continue
		}
		for _, r := range Rules {
			s.rule = r
			r.check(s)
			report.Findings = append(report.Findings, s.drain()...)
		}
	}
	slices.SortStableFunc(report.Findings, func(a, b Finding) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	return report
}

// subject is one ScaledObject with its workload and the other autoscalers of that workload.
type subject struct {
	Options
	doc      *manifest.Document
	spec     scaledObjectSpec
	triggers []ownTrigger
	workload *workload // nil if it is not in the input

	otherAutoscalers []*manifest.Document

	malformed bool // some value has the wrong type

	rule     Rule
	findings []Finding
}

// ownTrigger is a trigger of this scaler.
type ownTrigger struct {
	index int
	triggerSpec
	parsed *trigger.Trigger // nil if the scaler rejects the metadata
	faults trigger.Faults
}

// hasPodTemplate reports whether the rules read the pod template of workloads of that kind.
func hasPodTemplate(kind string) bool { return kind == "Deployment" || kind == "StatefulSet" }

// has reports whether the metadata have the key.
func (o ownTrigger) has(key string) bool {
	_, ok := o.Metadata[key]
	return ok
}

type workload struct {
	doc  *manifest.Document
	spec workloadSpec
}

// pods returns the spec of the workload's pod template; nil without one.
func (s *subject) pods() *podSpec {
	if s.workload == nil || len(s.workload.spec.Template.Spec.Containers) == 0 {
		return nil
	}
	return &s.workload.spec.Template.Spec
}

func newSubject(doc *manifest.Document, docs []*manifest.Document, o Options) *subject {
	s := &subject{Options: o, doc: doc}
	var object struct{ Spec scaledObjectSpec }
	s.decode(doc, &object)
	s.spec = object.Spec
	ref := s.spec.ScaleTargetRef
	for _, other := range docs {
		switch {
		case other == doc || !other.SameNamespace(doc):
		case other.Kind == ref.kind() && other.Metadata.Name == ref.Name:
			s.workload = &workload{doc: other}
			if hasPodTemplate(other.Kind) {
				var object struct{ Spec workloadSpec }
				s.decode(other, &object)
				s.workload.spec = object.Spec
			}
		case s.sameTarget(other):
			s.otherAutoscalers = append(s.otherAutoscalers, other)
		}
	}
	for i, t := range s.spec.Triggers {
		if isOwn(t) {
			s.triggers = append(s.triggers, s.parse(i, t))
		}
	}
	return s
}

// shape has no function: its findings come from decoding.
var shape = Rule{Name: "shape", Severity: Error, Doc: "a value has a type that the API server rejects", check: func(*subject) {}}

func (s *subject) decode(doc *manifest.Document, to any) {
	s.rule = shape
	doc.Decode(to, func(line int, text string) {
		s.malformed = true
		s.add(doc, line, "%s", text)
	})
}

// isOwn reports whether the trigger is for this scaler, and not for another external one. Its
// address contains the scaler's name, or its metadata have the keys that every trigger needs.
func isOwn(t triggerSpec) bool {
	if t.Type != "external" && t.Type != "external-push" {
		return false
	}
	if strings.Contains(resolved(t.Metadata["scalerAddress"]).Value, "inference-scaler") {
		return true
	}
	has := func(key string) bool {
		_, direct := t.Metadata[key]
		_, fromEnv := t.Metadata[key+"FromEnv"] // rejected, and therefore a finding
		return direct || fromEnv
	}
	return has("engine") || has("follow") || has("query") && has("target")
}

// resolved returns the node, or the node that it is an alias of.
func resolved(node yaml.Node) yaml.Node {
	if node.Kind == yaml.AliasNode {
		return *node.Alias
	}
	return node
}

func (s *subject) parse(index int, t triggerSpec) ownTrigger {
	o := ownTrigger{index: index, triggerSpec: t}
	values := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(t.Metadata)) {
		node := resolved(t.Metadata[key])
		if node.Kind != yaml.ScalarNode || node.Tag != "!!str" {
			s.at([]any{"triggers", index, "metadata", key}, "%s: %s is not a string; wanted: %q", key, node.Value, node.Value)
		}
		values[key] = node.Value
	}
	var err error
	if o.parsed, err = trigger.Parse(values); err != nil {
		errors.As(err, &o.faults)
	}
	return o
}

// sameTarget reports whether the other object is another autoscaler of the same workload.
func (s *subject) sameTarget(other *manifest.Document) bool {
	var object struct {
		Spec struct {
			ScaleTargetRef targetRef `yaml:"scaleTargetRef"`
		}
	}
	if other.Kind != "ScaledObject" && other.Kind != "HorizontalPodAutoscaler" {
		return false
	}
	other.Decode(&object, func(int, string) {}) // only the target matters here
	ref := object.Spec.ScaleTargetRef
	if ref.kind() != s.spec.ScaleTargetRef.kind() || ref.Name != s.spec.ScaleTargetRef.Name {
		return false
	}
	if other.Kind == "ScaledObject" {
		return other.Metadata.Name != s.doc.Metadata.Name // the input may contain a file twice
	}
	for _, owner := range other.Metadata.OwnerReferences {
		if owner.Kind == "ScaledObject" && owner.Name == s.doc.Metadata.Name {
			return false
		}
	}
	transferred := s.doc.Metadata.Annotations["scaledobject.keda.sh/transfer-hpa-ownership"] == "true" && s.spec.Advanced.HPA.Name == other.Metadata.Name
	return !transferred
}

func (s *subject) add(doc *manifest.Document, line int, format string, args ...any) {
	s.findings = append(s.findings, Finding{
		File: doc.File, Line: line, Severity: s.rule.Severity, Rule: s.rule.Name,
		Object: doc.String(), Message: fmt.Sprintf(format, args...),
	})
}

// at adds a finding about the value at the path within the ScaledObject's spec.
func (s *subject) at(path []any, format string, args ...any) {
	s.add(s.doc, s.doc.Line(append([]any{"spec"}, path...)...), format, args...)
}

// drain returns and clears the findings.
func (s *subject) drain() []Finding {
	found := s.findings
	s.findings = nil
	return found
}

// bounds returns minReplicaCount, maxReplicaCount and idleReplicaCount with KEDA's defaults.
func (s *subject) bounds() (least, most, idle int) {
	least, most = or(s.spec.MinReplicaCount, 0), or(s.spec.MaxReplicaCount, 100)
	return least, most, or(s.spec.IdleReplicaCount, least)
}

// scalesToZero reports whether the workload may have zero replicas. A trigger with follow is
// always active.
func (s *subject) scalesToZero() bool {
	_, _, idle := s.bounds()
	return idle == 0 && !slices.ContainsFunc(s.triggers, func(o ownTrigger) bool { return o.has("follow") })
}

// parsed returns the triggers of this scaler with valid metadata.
func (s *subject) parsed() []ownTrigger {
	return slices.DeleteFunc(slices.Clone(s.triggers), func(o ownTrigger) bool { return o.parsed == nil })
}
