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

// Trigger is what a trigger's metadata ask for, checked and with the defaults of
// its engine filled in. It is immutable.
type Trigger struct {
	// Engine is the preset's name, empty for a trigger of queries alone.
	Engine string
	// MetricName is what the trigger's metric is called in the HPA (after KEDA's index).
	MetricName string

	// Load sizes the workload, nil where its leader alone does: Target is what one replica should carry of it, in
	// its own unit and in whole thousandths.
	Load   *metricsource.Query
	Target float64
	// InFlight is all work waiting or running, nil where nothing tells. The
	// workload is active while it is above Activation.
	InFlight   *metricsource.Query
	Activation float64
	// Saturation is how full each replica is, from 0 to 1, nil where nothing
	// tells. It keeps a fleet from shrinking below what would be filled to
	// SaturationTarget; with SaturationAdds it makes the fleet grow, too.
	Saturation       *metricsource.Query
	SaturationTarget float64
	SaturationAdds   bool
	// Latency in seconds, and its objective; nil without one.
	Latency         *metricsource.Query
	LatencyTarget   time.Duration
	LatencyLookback time.Duration // over which the latency is measured

	// Port, Path and Scheme are where a pod serves its metrics; Endpoints
	// (host:port) are read instead of the workload's pods.
	Port      int
	Path      string
	Scheme    string
	Endpoints []string

	// Prometheus answers the queries; nil where they are answered from what is read of the pods.
	Prometheus *Prometheus

	// Follow is the leader; nil where there is none.
	Follow *Follow

	// Capacity is what it says of its replicas' GPUs.
	Capacity Capacity

	// Upstream is never nil; it may name nothing to read.
	Upstream *Upstream

	// AuthSecret and CASecret name Secrets of the namespace, for Prometheus and the
	// upstream; empty for none.
	AuthSecret, CASecret string

	// Interval between two readings of a target.
	Interval time.Duration
	// Hold is for how long the largest answer stands.
	Hold time.Duration
	// StaleAfter is how long after its last answer a target is unknown.
	StaleAfter time.Duration

	// Want is what all the queries want of a target.
	Want *metricsource.Want
}

// Limits of a trigger's metadata as a whole.
const (
	maxKeys  = 64
	maxBytes = 32 << 10
)

// Fault is what is wrong with one key of the metadata. Its text names the key.
type Fault struct {
	// Key is as it was given, or the key that is missing; empty where it is the metadata as a whole.
	Key string
	err error
}

func (f *Fault) Error() string { return f.err.Error() }

// Unwrap returns what the key's value was refused for.
func (f *Fault) Unwrap() error { return f.err }

// Faults are all that is wrong with a trigger's metadata, a line each.
type Faults []*Fault

func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.Error()
	}
	return strings.Join(lines, "\n")
}

// Parse reads a trigger's metadata, as KEDA passes them or as a ScaledObject
// holds them. The error is Faults.
func Parse(metadata map[string]string) (*Trigger, error) {
	if err := bounded(metadata); err != nil {
		return nil, Faults{{err: err}}
	}
	p := &parser{values: map[string]string{}}
	for _, name := range slices.Sorted(maps.Keys(metadata)) {
		p.take(name, metadata[name])
	}
	t := p.trigger()
	if len(p.faults) > 0 {
		return nil, p.faults
	}
	return t, nil
}

func bounded(metadata map[string]string) error {
	size := 0
	for k, v := range metadata {
		size += len(k) + len(v)
	}
	if len(metadata) > maxKeys || size > maxBytes {
		return fmt.Errorf("metadata of %d keys and %d bytes; at most %d keys and %d bytes", len(metadata), size, maxKeys, maxBytes)
	}
	return nil
}

// parser collects the values of known keys, and all that is wrong.
type parser struct {
	values map[string]string
	faults Faults
}

func (p *parser) failf(key, format string, args ...any) {
	p.faults = append(p.faults, &Fault{key, fmt.Errorf(key+": "+format, args...)})
}

// take records one entry of the metadata.
func (p *parser) take(name, value string) {
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

// trigger builds the Trigger of the values; what is wrong is in p.faults.
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
	p.places(t)
	p.times(t)
	t.Upstream = p.upstream()
	p.secrets(t)
	t.Follow = p.follow(t)
	t.Capacity = p.capacity()
	p.want(t, base)
	t.MetricName = t.Engine
	switch {
	case !p.sized():
		t.MetricName = "follow"
	case t.MetricName == "":
		t.MetricName = "query"
	}
	return t
}

func (p *parser) preset() preset.Preset {
	engine, given := p.values["engine"]
	if !given {
		if p.values["query"] == "" && p.sized() {
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

// queries reads the four queries: the trigger's own, else the preset's.
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
		q, err = ofPreset(base.PromQL, base.Needs...)
	}
	if err != nil {
		p.failf(key, "%w", err)
		return nil
	}
	return q
}

// ofPresets are the presets' queries that were parsed, by their text: the triggers of an
// engine share them, as their expressions take more memory than all else of a trigger.
var ofPresets = struct {
	sync.Mutex
	parsed map[string]*metricsource.Query
}{parsed: map[string]*metricsource.Query{}}

func ofPreset(text string, needs ...string) (*metricsource.Query, error) {
	key := strings.Join(append([]string{text}, needs...), "\x00")
	ofPresets.Lock()
	defer ofPresets.Unlock()
	if q := ofPresets.parsed[key]; q != nil {
		return q, nil
	}
	q, err := metricsource.ParseQuery(text, needs...)
	if err == nil {
		ofPresets.parsed[key] = q
	}
	return q, err
}

// lookback is how far back a query reads, here or at a Prometheus.
func lookback(t *Trigger, q *metricsource.Query) time.Duration {
	if remote, own := t.Prometheus.Own(q); own {
		if parsed, err := metricsource.ParseRemoteQuery(remote.Query); err == nil {
			return parsed.Lookback()
		}
	}
	return q.Lookback()
}

// want joins what the queries want of a target. Without the load and the work in
// flight there is no answer; the others may be missing. What a Prometheus answers as it
// is, is wanted of no target.
func (p *parser) want(t *Trigger, base preset.Preset) {
	if len(p.faults) > 0 {
		return
	}
	var needed, optional []*metricsource.Query
	for _, q := range []*metricsource.Query{t.Load, t.InFlight} {
		if _, own := t.Prometheus.Own(q); q != nil && !own {
			needed = append(needed, q)
		}
	}
	for _, q := range []*metricsource.Query{t.Saturation, t.Latency} {
		if _, own := t.Prometheus.Own(q); q != nil && !own {
			optional = append(optional, q)
		}
	}
	idle := metricsource.Idle{Prefixes: base.Prefixes}
	if base.Served != "" {
		served, err := ofPreset(base.Served)
		if err != nil {
			p.failf("engine", "%w", err)
			return
		}
		idle.Served = served
	}
	t.Want = metricsource.NewWant(idle, needed, optional)
}
