package trigger

import "strings"

const (
	minRatio = 0.001
	maxRatio = 10_000
	maxName  = 253 // of a Kubernetes object
)

// Follow is the workload whose replicas size this one.
type Follow struct {
	// Kind and Name of the leader, in the trigger's namespace; Kind may be empty.
	Kind, Name string
	// Ratio is how many replicas of the leader one replica of this workload serves, in whole
	// thousandths.
	Ratio float64
}

func (f Follow) String() string {
	if f.Kind == "" {
		return f.Name
	}
	return f.Kind + "/" + f.Name
}

// follow parses the leader; nil without one. Without a load of its own the workload is sized
// only by its leader, and the ratio is its target.
func (p *parser) follow(t *Trigger) *Follow {
	text, given := p.values["follow"]
	if !given {
		if p.values["ratio"] != "" {
			p.failf("ratio", "has no effect without follow")
		}
		return nil
	}
	f := &Follow{Name: text, Ratio: 1}
	if kind, name, ok := strings.Cut(text, "/"); ok {
		f.Kind, f.Name = kind, name
		if kind == "" {
			f.Name = "" // fails the check of the name
		}
	}
	if len(f.Name) > maxName || len(f.Kind) > maxName || !objectName.MatchString(f.Name) {
		p.failf("follow", "%q; wanted: the name of a workload in the namespace, or kind/name", clip(text))
	}
	p.number("ratio", &f.Ratio, minRatio, maxRatio)
	f.Ratio = roundToThousandths(f.Ratio)
	if p.hasLoad() {
		return f
	}
	for _, key := range loadKeys {
		if p.values[key] != "" {
			p.failf(key, "has no effect with follow alone; wanted: an engine or a query too")
		}
	}
	t.Target = f.Ratio
	return f
}

// hasLoad reports whether the metadata define a load of the workload.
func (p *parser) hasLoad() bool { return p.values["engine"] != "" || p.values["query"] != "" }

// loadKeys are the keys that have no effect if only a leader sizes the workload.
var loadKeys = []string{
	"target", "inflightQuery", "activation", "saturationQuery", "saturationTarget", "latencyQuery", "latencyTarget",
	"port", "path", "scheme", "interval", "endpoints", "upstream", "upstreamEngine", "upstreamQuery", "upstreamCounts",
	"prometheusAddress", "hold", "staleAfter",
}
