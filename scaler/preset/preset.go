package preset

import (
	"maps"
	"slices"
	"strings"
)

// Preset holds the queries and defaults of an engine.
type Preset struct {
	Name string
	// Port and Path locate the metrics of a pod. Port is 0 if the engine has no default port.
	Port int
	Path string
	// Target is the load per replica; 0 if it depends on the model.
	Target float64
	// Load sizes the workload.
	Load Query
	// InFlight counts all work, waiting and running. KEDA may scale to zero only if it is 0.
	// Empty if the engine does not report it.
	InFlight Query
	// Saturation is 0 to 1 per pod. Empty if the engine does not report it.
	Saturation       Query
	SaturationTarget float64
	// Prefixes are the prefixes of the metric names, if the engine exports no gauges before
	// its first request. Served is a counter that exists from the first request on.
	Prefixes []string
	Served   string
}

// Query is an expression with the series that it requires. A pod must export at least one
// series of each selector in Needs.
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

// Names returns the sorted names of the engines.
func Names() []string { return slices.Sorted(maps.Keys(presets)) }

// series selects metrics by name, in all spellings of engines and exporters: with : or _,
// and with the suffix _total or without.
func series(names []string, matchers ...string) string {
	var patterns []string
	for _, name := range names {
		pattern := strings.ReplaceAll(name, ":", "[:_]")
		patterns = append(patterns, pattern, pattern+"_total")
	}
	all := append([]string{`__name__=~"` + strings.Join(patterns, "|") + `"`}, matchers...)
	return "{" + strings.Join(all, ",") + "}"
}

// metric is series for one name.
func metric(name string, matchers ...string) string { return series([]string{name}, matchers...) }

// firstOf returns, for each pod, the first expression with a result. The expressions are
// aliases of a metric, newest first.
func firstOf(exprs ...string) string { return "(" + strings.Join(exprs, " or ") + ")" }

// perPod sums over all labels but pod, such as the model.
func perPod(selector string) string { return "sum by (pod) (" + selector + ")" }

// total sums metrics by pod. Each pod must export all of them.
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
