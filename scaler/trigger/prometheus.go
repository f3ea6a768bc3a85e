package trigger

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/inference-scaler/inference-scaler/metricsource"
)

// Prometheus is a server that answers the trigger's queries instead of the pods.
type Prometheus struct {
	// Address is the base URL, without the path of the API.
	Address string
	// Queries are the trigger's own queries. They are sent unchanged, and may read any series.
	Queries []metricsource.RemoteQuery
	// own maps the local queries that select the results of Queries.
	own map[*metricsource.Query]metricsource.RemoteQuery
}

// Remote returns the remote query whose result q selects; false if q reads the samples of
// the workload's pods. It is safe on nil.
func (p *Prometheus) Remote(q *metricsource.Query) (metricsource.RemoteQuery, bool) {
	if p == nil || q == nil {
		return metricsource.RemoteQuery{}, false
	}
	remote, ok := p.own[q]
	return remote, ok
}

// add adds a remote query, and returns the local query that selects its result.
func (p *Prometheus) add(name, text string) (*metricsource.Query, error) {
	if _, err := metricsource.ParseRemoteQuery(text); err != nil {
		return nil, err
	}
	remote := metricsource.RemoteQuery{Name: name, Query: text}
	local, err := metricsource.ParseQuery(remote.Selector())
	if err != nil {
		return nil, err
	}
	p.Queries = append(p.Queries, remote)
	p.own[local] = remote
	return local, nil
}

// prometheus parses the address of the server; nil without one.
func (p *parser) prometheus() *Prometheus {
	text, given := p.values["prometheusAddress"]
	if !given {
		return nil
	}
	for _, key := range []string{"endpoints", "port", "path", "scheme"} {
		if p.values[key] != "" {
			p.failf(key, "has no effect with prometheusAddress, because pods are not read")
		}
	}
	u, err := url.Parse(text)
	switch {
	case err == nil && u.User != nil:
		p.failf("prometheusAddress", "a URL with a user or a password; wanted: one without, and an authSecret") // the text must not repeat the password
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" || len(text) > maxPath:
		p.failf("prometheusAddress", "%q; wanted: a URL such as http://prometheus.monitoring.svc:9090, without a query string", clip(text))
	}
	return &Prometheus{Address: text, own: map[*metricsource.Query]metricsource.RemoteQuery{}}
}

// secrets parses the names of the Secrets for the upstream and Prometheus.
func (p *parser) secrets(t *Trigger) {
	for key, to := range map[string]*string{"authSecret": &t.AuthSecret, "caSecret": &t.CASecret} {
		name, given := p.values[key]
		switch {
		case !given:
		case len(name) > maxName || !objectName.MatchString(name):
			p.failf(key, "%q; wanted: the name of a Secret in the namespace", clip(name))
		case p.values["upstream"] == "" && p.values["prometheusAddress"] == "":
			p.failf(key, "has no effect without an upstream or a prometheusAddress")
		case key == "caSecret" && p.noTLS():
			p.failf(key, "has no effect without an upstream or a prometheusAddress that is https")
		default:
			*to = name
		}
	}
}

// noTLS reports whether neither the upstream nor Prometheus is read over TLS. The endpoints
// of a Service are read over http. An invalid address is a fault of its own.
func (p *parser) noTLS() bool {
	addresses := append(strings.Split(p.values["upstream"], ","), p.values["prometheusAddress"])
	return !slices.ContainsFunc(addresses, func(address string) bool {
		address = strings.ToLower(strings.TrimSpace(address))
		return address != "" && !strings.HasPrefix(address, "http://") && !strings.HasPrefix(address, "service/")
	})
}

// objectName matches the names of Kubernetes objects.
var objectName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`)
