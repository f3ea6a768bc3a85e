package trigger

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/inference-scaler/inference-scaler/metricsource"
	"github.com/inference-scaler/inference-scaler/scaler/preset"
)

// Prometheus is a server that answers the trigger's own queries in place of this
// scaler's readings of the pods.
type Prometheus struct {
	// Address is the URL that the API's own path is appended to.
	Address string
	// narrowed are the engine's queries, which are asked of the workload's pods
	// alone; others are taken as they stand, and may be about anything.
	narrowed []*metricsource.Query
	// Idle yields the pods whose engine is there and has had no request yet, nil
	// where the engine exports its load from the start.
	Idle *metricsource.Query
}

// Independent reports whether Prometheus is asked the query as it stands, and not
// of the workload's pods alone. It is safe on nil.
func (p *Prometheus) Independent(q *metricsource.Query) bool {
	return p != nil && !slices.Contains(p.narrowed, q)
}

// prometheus reads the keys of the Prometheus server; nil where there is none.
func (p *parser) prometheus(base preset.Preset) *Prometheus {
	text, given := p.values["prometheusAddress"]
	if !given {
		return nil
	}
	for _, key := range []string{"endpoints", "port", "path", "scheme"} {
		if p.values[key] != "" {
			p.failf(key, "means nothing beside prometheusAddress, where pods are not read")
		}
	}
	u, err := url.Parse(text)
	switch {
	case err == nil && u.User != nil:
		p.failf("prometheusAddress", "a URL with a user or a password; wanted: one without, and an authSecret") // and not repeated
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" || len(text) > maxPath:
		p.failf("prometheusAddress", "%q; wanted: a URL such as http://prometheus.monitoring.svc:9090, without a query string", clip(text))
	}
	out := &Prometheus{Address: text}
	if base.MayBeIdle() != "" {
		if out.Idle, err = metricsource.ParseRemoteQuery(base.MayBeIdle()); err != nil {
			p.failf("engine", "%w", err)
		}
	}
	return out
}

// secrets reads the names of the Secrets, which are for what is read by address.
func (p *parser) secrets(t *Trigger) {
	for key, to := range map[string]*string{"authSecret": &t.AuthSecret, "caSecret": &t.CASecret} {
		name, given := p.values[key]
		switch {
		case !given:
		case len(name) > maxName || !objectName.MatchString(name):
			p.failf(key, "%q; wanted: the name of a Secret in the namespace", clip(name))
		case p.values["upstream"] == "" && p.values["prometheusAddress"] == "":
			p.failf(key, "means nothing without an upstream or a prometheusAddress to use it towards")
		case key == "caSecret" && p.allPlain():
			p.failf(key, "means nothing without an upstream or a prometheusAddress that is https")
		default:
			*to = name
		}
	}
}

// allPlain reports whether nothing that is read by address has a certificate. A Service's
// endpoints are read by http; what is no address has a fault of its own.
func (p *parser) allPlain() bool {
	addresses := append(strings.Split(p.values["upstream"], ","), p.values["prometheusAddress"])
	return !slices.ContainsFunc(addresses, func(address string) bool {
		address = strings.ToLower(strings.TrimSpace(address))
		return address != "" && !strings.HasPrefix(address, "http://") && !strings.HasPrefix(address, "service/")
	})
}

// objectName is what Kubernetes calls objects.
var objectName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`)
