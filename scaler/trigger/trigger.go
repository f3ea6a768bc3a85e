package trigger

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource"
	"github.com/inference-scaler/inference-scaler/scaler/preset"
)

// Trigger is the validated metadata of a trigger, with the defaults of its engine. It is
// immutable.
type Trigger struct {
	// Engine is the name of the preset; empty without one.
	Engine string
	// MetricName is the name of the metric in the HPA, after KEDA's index.
	MetricName string

	// Load sizes the workload; nil if only its leader does. Target is the load per replica,
	// in whole thousandths.
	Load   *metricsource.Query
	Target float64
	// InFlight is all work, waiting and running; nil if nothing reports it. The workload is
	// active while it exceeds Activation.
	InFlight   *metricsource.Query
	Activation float64
	// Saturation is 0 to 1 per replica; nil if nothing reports it. The fleet does not shrink
	// below the replicas that it fills to SaturationTarget. With SaturationAdds the fleet
	// also grows to that number.
	Saturation       *metricsource.Query
	SaturationTarget float64
	SaturationAdds   bool
	// Latency is in seconds; nil without an objective.
	Latency         *metricsource.Query
	LatencyTarget   time.Duration
	LatencyLookback time.Duration // window of the latency query

	// Port, Path and Scheme locate the metrics of a pod. Endpoints (host:port) replace the
	// workload's pods.
	Port      int
	Path      string
	Scheme    string
	Endpoints []string

	// Prometheus answers the queries; nil if the pods' own samples do.
	Prometheus *Prometheus

	// Follow is the leader; nil without one.
	Follow *Follow

	// Capacity holds the GPU settings.
	Capacity Capacity

	// Upstream is never nil. It can lack an address.
	Upstream *Upstream

	// AuthSecret and CASecret name Secrets in the namespace, for Prometheus and the upstream;
	// empty without one.
	AuthSecret, CASecret string

	// Interval is the time between two readings of a target.
	Interval time.Duration
	// Hold is how long the largest value is kept.
	Hold time.Duration
	// StaleAfter is how long after its last response a target becomes unknown.
	StaleAfter time.Duration

	// Selection is the series that all queries read from a target.
	Selection *metricsource.Selection
}

// Limits of the metadata of a trigger.
const (
	maxKeys  = 64
	maxBytes = 32 << 10
)

// Fault is an error in one key of the metadata. Its text names the key.
type Fault struct {
	// Key is the key as given, or the missing key; empty for the metadata as a whole.
	Key string
	err error
}

func (f *Fault) Error() string { return f.err.Error() }

// Unwrap returns the cause.
func (f *Fault) Unwrap() error { return f.err }

// Faults holds all errors in the metadata of a trigger, one per line of its text.
type Faults []*Fault

func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.Error()
	}
	return strings.Join(lines, "\n")
}

// Parse parses the metadata of a trigger, from KEDA or from a ScaledObject. The error is of
// type Faults.
func Parse(metadata map[string]string) (*Trigger, error) {
	if err := checkSize(metadata); err != nil {
		return nil, Faults{{err: err}}
	}
	p := &parser{values: map[string]string{}}
	for _, name := range slices.Sorted(maps.Keys(metadata)) {
		p.read(name, metadata[name])
	}
	t := p.trigger()
	if len(p.faults) > 0 {
		return nil, p.faults
	}
	return t, nil
}

func checkSize(metadata map[string]string) error {
	size := 0
	for k, v := range metadata {
		size += len(k) + len(v)
	}
	if len(metadata) > maxKeys || size > maxBytes {
		return fmt.Errorf("metadata of %d keys and %d bytes; at most %d keys and %d bytes", len(metadata), size, maxKeys, maxBytes)
	}
	return nil
}

// parser collects the values of known keys, and all faults.
type parser struct {
	values map[string]string
	faults Faults
}

func (p *parser) failf(key, format string, args ...any) {
	p.faults = append(p.faults, &Fault{key, fmt.Errorf(key+": "+format, args...)})
}

// read checks the key of one entry, and stores its value.
func (p *parser) read(name, value string) {
	if slices.Contains(kedaKeys, name) {
		return
	}
	if key, ok := strings.CutSuffix(name, envSuffix); ok {
		p.failf(clip(name), "values from the environment of the workload's pods are not supported; wanted: the value itself, under the key %q", clip(key))
		return
	}
	if _, ok := find(name); !ok {
		p.faults = append(p.faults, &Fault{name, fmt.Errorf("unknown key %q%s", clip(name), suggest(name))})
		return
	}
	value = strings.TrimSpace(value)
	if value == "" {
		p.failf(name, "empty; leave the key out for its default")
		return
	}
	p.values[name] = value
}

// trigger builds the Trigger of the values. Errors are added to p.faults.
func (p *parser) trigger() *Trigger {
	base := p.preset()
	t := &Trigger{
		Engine:           base.Name,
		Path:             base.Path,
		Port:             base.Port,
		Target:           base.Target,
		SaturationTarget: base.SaturationTarget,
		Scheme:           "http",
	}
	t.Prometheus = p.prometheus()
	p.queries(t, base)
	p.targets(t)
	p.addresses(t)
	p.times(t)
	t.Upstream = p.upstream()
	p.secrets(t)
	t.Follow = p.follow(t)
	t.Capacity = p.capacity()
	p.selection(t, base)
	t.MetricName = t.Engine
	switch {
	case !p.needsLoad():
		t.MetricName = "follow"
	case t.MetricName == "":
		t.MetricName = "query"
	}
	return t
}

func (p *parser) preset() preset.Preset {
	engine, given := p.values["engine"]
	if !given {
		if p.values["query"] == "" && p.needsLoad() {
			p.failf("engine", "missing; wanted: one of %s, or a query", strings.Join(preset.Names(), ", "))
		}
		return preset.Preset{Path: "/metrics"}
	}
	base, ok := preset.Lookup(engine)
	if !ok {
		p.failf("engine", "%q is not known; wanted: one of %s, or a query instead", clip(engine), strings.Join(preset.Names(), ", "))
	}
	return base
}

// queries parses the four queries: those of the trigger, or else those of the preset.
func (p *parser) queries(t *Trigger, base preset.Preset) {
	t.Load = p.query(t, "query", base.Load)
	t.InFlight = p.query(t, "inflightQuery", base.InFlight)
	if t.InFlight == nil && base.InFlight.PromQL == "" && p.values["query"] != "" {
		t.InFlight = t.Load
	}
	t.Saturation = p.query(t, "saturationQuery", base.Saturation)
	t.Latency = p.query(t, "latencyQuery", preset.Query{})
	if t.Latency != nil {
		t.LatencyLookback = lookback(t, t.Latency)
	}
}

func (p *parser) query(t *Trigger, key string, base preset.Query) *metricsource.Query {
	var q *metricsource.Query
	var err error
	switch own, given := p.values[key]; {
	case given && t.Prometheus != nil:
		q, err = t.Prometheus.add(key, own)
	case given:
		q, err = metricsource.ParseQuery(own)
	case base.PromQL != "":
		q, err = presetQuery(base.PromQL, base.Needs...)
	}
	if err != nil {
		p.failf(key, "%w", err)
		return nil
	}
	return q
}

// presetQueries caches the parsed queries of presets by their text. Triggers share them,
// because a parsed expression needs more memory than the rest of a trigger.
var presetQueries = struct {
	sync.Mutex
	parsed map[string]*metricsource.Query
}{parsed: map[string]*metricsource.Query{}}

func presetQuery(text string, needs ...string) (*metricsource.Query, error) {
	key := strings.Join(append([]string{text}, needs...), "\x00")
	presetQueries.Lock()
	defer presetQueries.Unlock()
	if q := presetQueries.parsed[key]; q != nil {
		return q, nil
	}
	q, err := metricsource.ParseQuery(text, needs...)
	if err == nil {
		presetQueries.parsed[key] = q
	}
	return q, err
}

// lookback returns how far back a query reads, local or remote.
func lookback(t *Trigger, q *metricsource.Query) time.Duration {
	if remote, own := t.Prometheus.Remote(q); own {
		if parsed, err := metricsource.ParseRemoteQuery(remote.Query); err == nil {
			return parsed.Lookback()
		}
	}
	return q.Lookback()
}

// selection merges the series that the queries read from a target. The series of the load
// and of the work in flight are required; the others are optional. Remote queries read
// nothing from a target.
func (p *parser) selection(t *Trigger, base preset.Preset) {
	if len(p.faults) > 0 {
		return
	}
	var needed, optional []*metricsource.Query
	for _, q := range []*metricsource.Query{t.Load, t.InFlight} {
		if _, own := t.Prometheus.Remote(q); q != nil && !own {
			needed = append(needed, q)
		}
	}
	for _, q := range []*metricsource.Query{t.Saturation, t.Latency} {
		if _, own := t.Prometheus.Remote(q); q != nil && !own {
			optional = append(optional, q)
		}
	}
	idle := metricsource.Idle{Prefixes: base.Prefixes}
	if base.Served != "" {
		served, err := presetQuery(base.Served)
		if err != nil {
			p.failf("engine", "%w", err)
			return
		}
		idle.Served = served
	}
	t.Selection = metricsource.NewSelection(idle, needed, optional)
}
