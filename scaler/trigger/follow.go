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
	// Ratio is how many replicas of the leader one of this workload serves, in whole thousandths.
	Ratio float64
}

func (f Follow) String() string {
	if f.Kind == "" {
		return f.Name
	}
	return f.Kind + "/" + f.Name
}

// follow reads the leader; nil where there is none. Without a load of its own,
// such a trigger is sized by its leader alone, and its target is the ratio.
func (p *parser) follow(t *Trigger) *Follow {
	text, given := p.values["follow"]
	if !given {
		if p.values["ratio"] != "" {
			p.failf("ratio", "means nothing without follow")
		}
		return nil
	}
	f := &Follow{Name: text, Ratio: 1}
	if kind, name, ok := strings.Cut(text, "/"); ok {
		f.Kind, f.Name = kind, name
		if kind == "" {
			f.Name = "" // and so refused
		}
	}
	if len(f.Name) > maxName || len(f.Kind) > maxName || !objectName.MatchString(f.Name) {
		p.failf("follow", "%q; wanted: the name of a workload in the namespace, or kind/name", clip(text))
	}
	p.number("ratio", &f.Ratio, minRatio, maxRatio)
	f.Ratio = wholeThousandths(f.Ratio)
	if p.ownLoad() {
		return f
	}
	for _, key := range leaderAlone {
		if p.values[key] != "" {
			p.failf(key, "means nothing beside follow without a load of its own; wanted: an engine or a query as well")
		}
	}
	t.Target = f.Ratio
	return f
}

// ownLoad reports whether the metadata say what the workload's own load is.
func (p *parser) ownLoad() bool { return p.values["engine"] != "" || p.values["query"] != "" }

// leaderAlone are the keys that mean nothing where a leader alone sizes the workload.
var leaderAlone = []string{
	"target", "inflightQuery", "activation", "saturationQuery", "saturationTarget", "latencyQuery", "latencyTarget",
	"port", "path", "scheme", "interval", "endpoints", "upstream", "upstreamEngine", "upstreamQuery", "upstreamCounts",
	"prometheusAddress", "hold", "staleAfter",
}
