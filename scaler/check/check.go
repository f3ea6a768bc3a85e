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

// An Error keeps a fleet from scaling as intended; a Warning does so under some conditions.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Finding is one fault.
type Finding struct {
	File     string   `json:"file"` // empty for an object of a cluster
	Line     int      `json:"line"` // from 1; 0 without a file
	Severity Severity `json:"severity"`
	Rule     string   `json:"rule"`
	Object   string   `json:"object"` // "ScaledObject namespace/name"
	Message  string   `json:"message"`
}

// Report is the result of a check.
type Report struct {
	Findings []Finding `json:"findings"` // by file and line
	// ScaledObjects counts those with a trigger of this scaler.
	ScaledObjects int `json:"scaledObjects"`
	// Alone names those whose workload is not among the objects.
	Alone []string `json:"withoutWorkload"`
}

// Options are what no manifest contains. A zero field has its default.
type Options struct {
	// LongestRequest is how long a pod needs to finish its requests.
	LongestRequest time.Duration
	// ModelLoad is how long a pod without a startup probe takes until it is ready.
	ModelLoad time.Duration
	// Burst is the longest acceptable growth from the smallest fleet to the largest.
	Burst time.Duration
	// Complete: a workload that is not among the objects does not exist.
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
	report := Report{Findings: []Finding{}, Alone: []string{}}
	for _, doc := range docs {
		if doc.Kind != "ScaledObject" {
			continue
		}
		s := newSubject(doc, docs, o.defaults())
		if len(s.ours) == 0 {
			if s.shapeless { // its triggers may be unreadable too
				report.Findings = append(report.Findings, s.take()...)
			}
			continue
		}
		report.ScaledObjects++
		if s.workload == nil {
			report.Alone = append(report.Alone, fmt.Sprintf("%s of %s", s.spec.ScaleTargetRef, doc))
		}
		report.Findings = append(report.Findings, s.take()...)
		if s.shapeless { // the rules would judge zero values
			continue
		}
		for _, r := range Rules {
			s.rule = r
			r.check(s)
			report.Findings = append(report.Findings, s.take()...)
		}
	}
	slices.SortStableFunc(report.Findings, func(a, b Finding) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	return report
}

// subject is one ScaledObject with the objects that belong to it.
type subject struct {
	Options
	doc      *manifest.Document
	spec     scaledObjectSpec
	ours     []ours
	workload *workload
	rivals   []*manifest.Document // that size the same workload

	shapeless bool // some value has the wrong type

	rule     Rule
	findings []Finding
}

// ours is a trigger of this scaler.
type ours struct {
	at int // its index
	triggerSpec
	parsed *trigger.Trigger // nil if the scaler refuses the metadata
	faults trigger.Faults
}

// known reports whether the rules know the fields of a workload of that kind.
func known(kind string) bool { return kind == "Deployment" || kind == "StatefulSet" }

// says reports whether the metadata have the key.
func (o ours) says(key string) bool {
	_, given := o.Metadata[key]
	return given
}

type workload struct {
	doc  *manifest.Document
	spec workloadSpec
}

// pods is the workload's pod template; nil without one.
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
			if known(other.Kind) {
				var object struct{ Spec workloadSpec }
				s.decode(other, &object)
				s.workload.spec = object.Spec
			}
		case s.isRival(other):
			s.rivals = append(s.rivals, other)
		}
	}
	for i, t := range s.spec.Triggers {
		if isOurs(t) {
			s.ours = append(s.ours, s.parse(i, t))
		}
	}
	return s
}

// shape is broken by a value of the wrong type, while it is decoded.
var shape = Rule{Name: "shape", Severity: Error, Doc: "a value is of another type than the API server takes", check: func(*subject) {}}

func (s *subject) decode(doc *manifest.Document, to any) {
	s.rule = shape
	doc.Decode(to, func(line int, text string) {
		s.shapeless = true
		s.add(doc, line, "%s", text)
	})
}

// isOurs reports whether the trigger is for this scaler, and not for another external one:
// its address names the scaler, or its metadata have the keys that every trigger needs.
func isOurs(t triggerSpec) bool {
	if t.Type != "external" && t.Type != "external-push" {
		return false
	}
	if strings.Contains(resolved(t.Metadata["scalerAddress"]).Value, "inference-scaler") {
		return true
	}
	has := func(key string) bool {
		_, given := t.Metadata[key]
		_, fromEnv := t.Metadata[key+"FromEnv"] // refused, and therefore a finding
		return given || fromEnv
	}
	return has("engine") || has("follow") || has("query") && has("target")
}

// resolved is the node, or the one that it is an alias of.
func resolved(node yaml.Node) yaml.Node {
	if node.Kind == yaml.AliasNode {
		return *node.Alias
	}
	return node
}

func (s *subject) parse(at int, t triggerSpec) ours {
	o := ours{at: at, triggerSpec: t}
	values := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(t.Metadata)) {
		node := resolved(t.Metadata[key])
		if node.Kind != yaml.ScalarNode || node.Tag != "!!str" {
			s.at([]any{"triggers", at, "metadata", key}, "%s: %s is no string, and the API server takes nothing else; wanted: %q", key, node.Value, node.Value)
		}
		values[key] = node.Value
	}
	var err error
	if o.parsed, err = trigger.Parse(values); err != nil {
		errors.As(err, &o.faults)
	}
	return o
}

// isRival reports whether the other object sizes the same workload.
func (s *subject) isRival(other *manifest.Document) bool {
	var object struct {
		Spec struct {
			ScaleTargetRef targetRef `yaml:"scaleTargetRef"`
		}
	}
	if other.Kind != "ScaledObject" && other.Kind != "HorizontalPodAutoscaler" {
		return false
	}
	other.Decode(&object, func(int, string) {}) // other values do not matter here
	ref := object.Spec.ScaleTargetRef
	if ref.kind() != s.spec.ScaleTargetRef.kind() || ref.Name != s.spec.ScaleTargetRef.Name {
		return false
	}
	if other.Kind == "ScaledObject" {
		return other.Metadata.Name != s.doc.Metadata.Name // the same file may be given twice
	}
	for _, owner := range other.Metadata.OwnerReferences {
		if owner.Kind == "ScaledObject" && owner.Name == s.doc.Metadata.Name {
			return false
		}
	}
	taken := s.doc.Metadata.Annotations["scaledobject.keda.sh/transfer-hpa-ownership"] == "true" && s.spec.Advanced.HPA.Name == other.Metadata.Name
	return !taken
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

// take returns the findings so far, and clears them.
func (s *subject) take() []Finding {
	found := s.findings
	s.findings = nil
	return found
}

// bounds returns minReplicaCount, maxReplicaCount and idleReplicaCount, with KEDA's defaults.
func (s *subject) bounds() (least, most, idle int) {
	least, most = or(s.spec.MinReplicaCount, 0), or(s.spec.MaxReplicaCount, 100)
	return least, most, or(s.spec.IdleReplicaCount, least)
}

// sleeps reports whether the workload may reach zero replicas. A follower is always active.
func (s *subject) sleeps() bool {
	_, _, idle := s.bounds()
	return idle == 0 && !slices.ContainsFunc(s.ours, func(o ours) bool { return o.says("follow") })
}

// parsed returns the triggers of this scaler with valid metadata.
func (s *subject) parsed() []ours {
	return slices.DeleteFunc(slices.Clone(s.ours), func(o ours) bool { return o.parsed == nil })
}
