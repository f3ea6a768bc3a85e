package trigger

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/inference-scaler/inference-scaler/metricsource"
	"github.com/inference-scaler/inference-scaler/scaler/preset"
)

const maxUpstreams = 32

// Upstream is the source of demand that has not reached a pod. It is read, or pushes.
type Upstream struct {
	// Service is read at each of its endpoints. Its Name is empty if URLs are read.
	Service ServicePort
	Path    string
	URLs    []string

	// Demand is the work upstream. InFlight: it includes the work on pods.
	Demand   *metricsource.Query
	InFlight bool
	// Arrivals counts requests by instance; nil without such a counter.
	Arrivals *metricsource.Query
	// Selection is the series that both queries read from an upstream.
	Selection *metricsource.Selection
}

// ServicePort is a port of a Service in the trigger's namespace.
type ServicePort struct {
	Name string
	// Port is a port of the Service, by name or number. A number that the Service does not
	// have is a port of its pods.
	Port string
}

// HasAddress reports whether there is an upstream to read.
func (u *Upstream) HasAddress() bool { return u.Service.Name != "" || len(u.URLs) > 0 }

func (s ServicePort) String() string { return "service/" + s.Name + ":" + s.Port }

// upstream parses the keys of the upstream.
func (p *parser) upstream() *Upstream {
	engine, ok := p.values["upstreamEngine"]
	if !ok {
		engine = preset.DefaultUpstream
	}
	base, known := preset.LookupUpstream(engine)
	if !known {
		p.failf("upstreamEngine", "%q is not known; wanted: one of %s, or an upstreamQuery instead", clip(engine), strings.Join(preset.UpstreamNames(), ", "))
		return nil
	}
	u := &Upstream{Path: base.Path}
	if text, given := p.values["upstream"]; given {
		p.upstreamAddress(u, text)
	}
	p.upstreamQueries(u, base)
	return u
}

// upstreamAddress parses service/NAME:PORT[/PATH], or URLs separated by commas.
func (p *parser) upstreamAddress(u *Upstream, text string) {
	const wanted = "wanted: service/NAME:PORT[/PATH], or URLs separated by commas"
	if rest, ok := strings.CutPrefix(text, "service/"); ok {
		rest, path, hasPath := strings.Cut(rest, "/")
		name, port, ok := strings.Cut(rest, ":")
		n, err := strconv.Atoi(port)
		if !ok || !isLabel(name) || !isLabel(port) || err == nil && (n < 1 || n > 65535) || !isPath("/"+path) {
			p.failf("upstream", "%q; %s", clip(text), wanted)
			return
		}
		if u.Service = (ServicePort{name, port}); hasPath {
			u.Path = "/" + path
		}
		return
	}
	list := strings.Split(text, ",")
	if len(list) > maxUpstreams {
		p.failf("upstream", "%d URLs; at most %d", len(list), maxUpstreams)
		return
	}
	for _, e := range list {
		e = strings.TrimSpace(e)
		parsed, err := url.Parse(e)
		switch {
		case err == nil && parsed.User != nil:
			p.failf("upstream", "a URL with a user or a password; wanted: one without") // the text must not repeat the password
		case err != nil || parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Hostname() == "" || parsed.Fragment != "" || len(e) > maxPath:
			p.failf("upstream", "%q; %s", clip(e), wanted)
		case slices.Contains(u.URLs, e):
			p.failf("upstream", "%q is listed twice", clip(e))
		default:
			if parsed.Path == "" {
				parsed.Path = u.Path
			}
			u.URLs = append(u.URLs, parsed.String())
		}
	}
}

// isLabel reports whether the text is a valid name of a Service or a port.
func isLabel(text string) bool {
	return text != "" && len(text) <= 63 && !strings.ContainsFunc(text, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
	})
}

// isPath reports whether the text is a path, with or without a query string.
func isPath(text string) bool {
	u, err := url.Parse(text)
	return err == nil && len(text) <= maxPath && strings.HasPrefix(text, "/") && !strings.HasPrefix(text, "//") && u.Fragment == ""
}

func (p *parser) upstreamQueries(u *Upstream, base preset.Upstream) {
	counts, given := p.values["upstreamCounts"]
	switch {
	case given && counts != "queued" && counts != "inflight":
		p.failf("upstreamCounts", "%q; wanted: queued or inflight", clip(counts))
	case given:
		u.InFlight = counts == "inflight"
	case p.values["upstreamQuery"] == "":
		u.InFlight = base.CountsInFlight
	}
	demand, other := base.Queued, "inflight"
	if u.InFlight {
		demand, other = base.InFlight, "queued"
	}
	if demand.PromQL == "" && p.values["upstreamQuery"] == "" {
		p.failf("upstreamCounts", "%q; %s reports only %s; remove the key, or set an upstreamQuery", clip(counts), base.Name, other)
		return
	}
	idle := metricsource.Idle{Prefixes: base.Prefixes}
	if _, own := p.values["upstreamQuery"]; own {
		idle = metricsource.Idle{}
	}
	u.Demand = p.query(&Trigger{}, "upstreamQuery", demand) // always a local query
	_, engine := p.values["upstreamEngine"]
	_, query := p.values["upstreamQuery"]
	if base.Arrivals != "" && (engine || !query) {
		arrivals, err := presetQuery(base.Arrivals)
		if err != nil {
			p.failf("upstreamEngine", "%w", err)
			return
		}
		u.Arrivals = arrivals
	}
	if u.Demand == nil {
		return
	}
	var optional []*metricsource.Query
	if u.Arrivals != nil {
		optional = append(optional, u.Arrivals)
	}
	u.Selection = metricsource.NewSelection(idle, []*metricsource.Query{u.Demand}, optional)
}
