package preset

import (
	"maps"
	"slices"
	"strings"
)

// Preset is what a trigger's engine stands for.
type Preset struct {
	Name string
	// Port and Path are where a pod serves its metrics; Port is 0 where the
	// engine has no port of its own.
	Port int
	Path string
	// Target is the load that one replica should carry; 0 where every model has its own.
	Target float64
	// Load sizes the workload.
	Load Query
	// InFlight counts all work that is waiting or running; it says whether the
	// workload may sleep. Empty where the engine cannot say.
	InFlight Query
	// Saturation says how full each pod is, from 0 to 1. Empty where the engine
	// does not say.
	Saturation       Query
	SaturationTarget float64
	// Prefixes of the engine's names, for engines that export no gauges before
	// their first request, and Served, the counter that tells when it has come.
	Prefixes []string
	Served   string
}

// Query is an expression, and what a pod must export for the expression to be
// about anything: one series at least of each of Needs.
type Query struct {
	PromQL string
	Needs  []string
}

var presets = map[string]Preset{
	"cartesia":      cartesia,
	"deepgram":      deepgram,
	"dynamo":        dynamo,
	"lightning-asr": lightningASR,
	"llamacpp":      llamacpp,
	"lmdeploy":      lmdeploy,
	"nim":           nim,
	"queue-depth":   queueDepth,
	"ray-serve":     rayServe,
	"sglang":        sglang,
	"tgi":           tgi,
	"triton":        triton,
	"trtllm":        trtllm,
	"vllm":          vllm,
}

// Lookup returns the preset of an engine.
func Lookup(engine string) (Preset, bool) {
	p, ok := presets[engine]
	if ok {
		p.Name = engine
	}
	return p, ok
}

// Names returns the engines that have a preset, in order.
func Names() []string { return slices.Sorted(maps.Keys(presets)) }

// series selects metrics by name, in all the spellings that engines and their
// exporters use: with : or _, with a counter's ending or without.
func series(names []string, matchers ...string) string {
	var patterns []string
	for _, name := range names {
		pattern := strings.ReplaceAll(name, ":", "[:_]")
		patterns = append(patterns, pattern, pattern+"_total")
	}
	all := append([]string{`__name__=~"` + strings.Join(patterns, "|") + `"`}, matchers...)
	return "{" + strings.Join(all, ",") + "}"
}

// metric selects one metric, as series does.
func metric(name string, matchers ...string) string { return series([]string{name}, matchers...) }

// firstOf yields, for each pod, the first of the expressions that the pod has a
// series for: the aliases of a metric, newest first.
func firstOf(exprs ...string) string { return "(" + strings.Join(exprs, " or ") + ")" }

// perPod sums over a pod's models, engines and other labels.
func perPod(selector string) string { return "sum by (pod) (" + selector + ")" }

// total sums several metrics over a pod, each of which it must have.
func total(selectors ...string) Query {
	q := Query{Needs: selectors}
	for i, s := range selectors {
		if i > 0 {
			q.PromQL += " + "
		}
		q.PromQL += perPod(s)
	}
	return q
}
