package preset

import (
	"maps"
	"slices"
)

// Upstream holds the queries for demand that has not reached a pod: of an API server, a
// gateway or a broker.
type Upstream struct {
	Name string
	// Path is the path of its metrics.
	Path string
	// Queued counts the work that waits for a pod. InFlight counts that and the work on pods.
	// One of them may be empty.
	Queued, InFlight Query
	// CountsInFlight: InFlight is the default of upstreamCounts.
	CountsInFlight bool
	// Arrivals counts arriving requests, as a sum per instance. Empty without such a counter.
	Arrivals string
	// Prefixes are the prefixes of its metric names, if it exports no gauges before its first
	// request.
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

// DefaultUpstream is the default of upstreamEngine.
const DefaultUpstream = "demand"

// LookupUpstream returns the preset of an upstream engine.
func LookupUpstream(engine string) (Upstream, bool) {
	u, ok := upstreams[engine]
	if ok {
		u.Name = engine
	}
	return u, ok
}

// UpstreamNames returns the sorted names of the upstream engines.
func UpstreamNames() []string { return slices.Sorted(maps.Keys(upstreams)) }

// perInstance sums over all labels but instance.
func perInstance(selector string) string { return "sum by (instance) (" + selector + ")" }
