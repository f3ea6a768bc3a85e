package preset

import (
	"maps"
	"slices"
)

// Upstream is what shows demand before it reaches a pod: an API server, a
// gateway, a broker.
type Upstream struct {
	Name string
	// Path is where it serves its metrics.
	Path string
	// Queued counts the work that waits there and is not handed to a pod yet, and
	// InFlight that and what pods work on. One of them may be missing.
	Queued, InFlight Query
	// CountsInFlight: it is InFlight that is read where a trigger does not say.
	CountsInFlight bool
	// Arrivals counts requests as they arrive, in a sum of each instance. Empty where nothing does.
	Arrivals string
	// Prefixes of its names, where it exports no gauges before its first request.
	Prefixes []string
}

var upstreams = map[string]Upstream{
	"demand":      demandUpstream,
	"dynamo":      dynamoUpstream,
	"envoy":       envoyUpstream,
	"epp":         eppUpstream,
	"litellm":     liteLLMUpstream,
	"redis":       redisUpstream,
	"vllm-router": vllmRouterUpstream,
}

// DefaultUpstream is read where a trigger names no other.
const DefaultUpstream = "demand"

// LookupUpstream returns the preset of an upstream engine.
func LookupUpstream(engine string) (Upstream, bool) {
	u, ok := upstreams[engine]
	if ok {
		u.Name = engine
	}
	return u, ok
}

// UpstreamNames returns the upstream engines that have a preset, in order.
func UpstreamNames() []string { return slices.Sorted(maps.Keys(upstreams)) }

// perInstance sums over the labels of each instance.
func perInstance(selector string) string { return "sum by (instance) (" + selector + ")" }
