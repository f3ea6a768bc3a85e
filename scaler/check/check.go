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

	"github.com/inference-scaler/inference-scaler/scaler/trigger"
)

// Severity says how bad a finding is.
type Severity string

// An Error keeps a fleet from scaling as it is meant to; a Warning does so in some
// circumstances.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Finding is one thing that would go wrong.
type Finding struct {
	File     string   `json:"file"` // empty for what a cluster holds
	Line     int      `json:"line"` // from 1; 0 where there is no file
	Severity Severity `json:"severity"`
	Rule     string   `json:"rule"`
	Object   string   `json:"object"` // "ScaledObject namespace/name"
	Message  string   `json:"message"`
}

// Report is what was found, and of how much.
type Report struct {
	Findings []Finding `json:"findings"` // by file and line
	// ScaledObjects counts those with a trigger of this scaler.
	ScaledObjects int `json:"scaledObjects"`
	// Alone names those whose workload was not given: the rules about it did not speak.
	Alone []string `json:"withoutWorkload"`
}

// Options are what no manifest tells. The zero value means the defaults.
type Options struct {
	// LongestRequest is what a pod needs to end its work.
	LongestRequest time.Duration
	// ModelLoad is how long a pod takes until it is ready, where no startup probe
	// tells.
	ModelLoad time.Duration
	// Burst is within what time the policies shall let a fleet grow from its
	// smallest to its largest.
	Burst time.Duration
	// Complete: the documents are all that the cluster has, so that a workload which
	// is not among them does not exist.
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
func Check(docs []*Document, o Options) Report {
	report := Report{Findings: []Finding{}, Alone: []string{}}
	for _, doc := range docs {
		if doc.kind != "ScaledObject" {
			continue
		}
		s := newSubject(doc, docs, o.defaults())
		if len(s.ours) == 0 {
			if s.shapeless { // whose it is could not be read either
				report.Findings = append(report.Findings, s.take()...)
			}
			continue
		}
		report.ScaledObjects++
		if s.workload == nil {
			report.Alone = append(report.Alone, fmt.Sprintf("%s of %s", s.spec.ScaleTargetRef, doc))
		}
		report.Findings = append(report.Findings, s.take()...)
		if s.shapeless { // what could not be read is not judged
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

// subject is one ScaledObject, and what was given with it.
type subject struct {
	Options
	doc      *Document
	spec     scaledObjectSpec
	ours     []ours
	workload *workload
	rivals   []*Document // that size the same workload

	shapeless bool // its values are not all of the right type

	rule     Rule
	findings []Finding
}

// ours is a trigger of this scaler.
type ours struct {
	at int // its index
	triggerSpec
	parsed *trigger.Trigger // nil where its metadata are refused
	faults trigger.Faults
}

// known are the kinds of workloads whose shape is. Of others it is enough that they exist.
func known(kind string) bool { return kind == "Deployment" || kind == "StatefulSet" }

// says reports whether the metadata have the key.
func (o ours) says(key string) bool {
	_, given := o.Metadata[key]
	return given
}

type workload struct {
	doc  *Document
	spec workloadSpec
}

// pods are the workload's, as its template has them; nil where it was not given, or has none.
func (s *subject) pods() *podSpec {
	if s.workload == nil || len(s.workload.spec.Template.Spec.Containers) == 0 {
		return nil
	}
	return &s.workload.spec.Template.Spec
}

func newSubject(doc *Document, docs []*Document, o Options) *subject {
	s := &subject{Options: o, doc: doc}
	var object struct{ Spec scaledObjectSpec }
	s.decode(doc, &object)
	s.spec = object.Spec
	ref := s.spec.ScaleTargetRef
	for _, other := range docs {
		switch {
		case other == doc || !other.with(doc):
		case other.kind == ref.kind() && other.meta.Name == ref.Name:
			s.workload = &workload{doc: other}
			if known(other.kind) {
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

// shape is the rule that values of a wrong type break. It is broken while they are read.
var shape = Rule{Name: "shape", Severity: Error, Doc: "a value is of another type than the API server takes", check: func(*subject) {}}

func (s *subject) decode(doc *Document, to any) {
	s.rule = shape
	doc.decode(to, func(line int, text string) {
		s.shapeless = true
		s.add(doc, line, "%s", text)
	})
}

// isOurs: the address names this scaler, or the metadata have a key that tells what
// to size by. There are other external scalers.
func isOurs(t triggerSpec) bool {
	if t.Type != "external" && t.Type != "external-push" {
		return false
	}
	if strings.Contains(resolved(t.Metadata["scalerAddress"]).Value, "inference-scaler") {
		return true
	}
	has := func(key string) bool { _, ok := t.Metadata[key]; return ok }
	return has("engine") || has("follow") || has("query") && has("target")
}

// resolved is the value that an alias stands for.
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
func (s *subject) isRival(other *Document) bool {
	var object struct {
		Spec struct {
			ScaleTargetRef targetRef `yaml:"scaleTargetRef"`
		}
	}
	if other.kind != "ScaledObject" && other.kind != "HorizontalPodAutoscaler" {
		return false
	}
	other.decode(&object, func(int, string) {}) // as far as it can be
	ref := object.Spec.ScaleTargetRef
	if ref.kind() != s.spec.ScaleTargetRef.kind() || ref.Name != s.spec.ScaleTargetRef.Name {
		return false
	}
	if other.kind == "ScaledObject" {
		return other.meta.Name != s.doc.meta.Name // the same one given twice is no other
	}
	for _, owner := range other.meta.OwnerReferences {
		if owner.Kind == "ScaledObject" && owner.Name == s.doc.meta.Name {
			return false
		}
	}
	taken := s.doc.meta.Annotations["scaledobject.keda.sh/transfer-hpa-ownership"] == "true" && s.spec.Advanced.HPA.Name == other.meta.Name
	return !taken
}

func (s *subject) add(doc *Document, line int, format string, args ...any) {
	s.findings = append(s.findings, Finding{
		File: doc.file, Line: line, Severity: s.rule.Severity, Rule: s.rule.Name,
		Object: doc.String(), Message: fmt.Sprintf(format, args...),
	})
}

// at adds a finding about the ScaledObject, where the path leads within its spec.
func (s *subject) at(path []any, format string, args ...any) {
	s.add(s.doc, s.doc.line(append([]any{"spec"}, path...)...), format, args...)
}

// take returns the findings so far, and forgets them.
func (s *subject) take() []Finding {
	found := s.findings
	s.findings = nil
	return found
}

// bounds are the fewest and the most replicas while the workload is awake, with KEDA's
// defaults, and those it falls to when it sleeps, the fewest where nothing else is said.
func (s *subject) bounds() (least, most, idle int) {
	least, most = or(s.spec.MinReplicaCount, 0), or(s.spec.MaxReplicaCount, 100)
	return least, most, or(s.spec.IdleReplicaCount, least)
}

// sleeps reports whether the workload may come to zero replicas. A follower is
// always active.
func (s *subject) sleeps() bool {
	_, _, idle := s.bounds()
	return idle == 0 && !slices.ContainsFunc(s.ours, func(o ours) bool { return o.says("follow") })
}

// parsed are the triggers of this scaler whose metadata it takes.
func (s *subject) parsed() []ours {
	return slices.DeleteFunc(slices.Clone(s.ours), func(o ours) bool { return o.parsed == nil })
}
