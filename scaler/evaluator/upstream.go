package evaluator

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/inference-scaler/inference-scaler/metricsource"
	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	"github.com/inference-scaler/inference-scaler/metricsource/push"
	"github.com/inference-scaler/inference-scaler/metricsource/scrape"
	"github.com/inference-scaler/inference-scaler/scaler/credentials"
	"github.com/inference-scaler/inference-scaler/scaler/evidence"
)

// wakeInterval is how often an upstream is read while the workload is at zero replicas:
// nothing else shows demand then, and a request may be waiting.
const wakeInterval = 250 * time.Millisecond

// upstream is where demand shows before it reaches a pod, read or reported. Its window
// is its own, so that no query adds it to the pods' samples.
type upstream struct {
	sources *sources
	window  *metricsource.Window
	group   *scrape.Group // nil if the trigger names nothing to read
	err     error         // why the targets are not known
	wake    func(time.Duration)

	reports  *push.Group // nil if nothing can be reported, or the workload is not known yet
	workload string      // that the reports are for
}

// openUpstream returns nil if nothing is to be read and nothing can be reported.
func openUpstream(s *sources, secrets *credentials.Source, wake func(time.Duration)) *upstream {
	t := s.spec.Upstream
	if s.spec.Load == nil || !t.HasAddress() && s.opts.Reports == nil {
		return nil
	}
	u := &upstream{sources: s, window: metricsource.NewWindow(t.Selection.Lookback()), wake: wake}
	if !t.HasAddress() {
		return u
	}
	u.err = errors.New("not read yet")
	u.group = s.opts.Scraper.Open(scrape.Config{
		Interval:    s.spec.Interval,
		Timeout:     s.timeout(),
		Selection:   t.Selection,
		Window:      u.window,
		Permit:      s.permit.namespace,
		Verify:      true,
		OnRead:      func() { wake(batchDelay) },
		Credentials: secrets.For(u.named),
	})
	return u
}

// close is safe on nil, as all methods of an upstream are.
func (u *upstream) close() {
	if u == nil {
		return
	}
	if u.group != nil {
		u.group.Close()
	}
	if u.reports != nil {
		u.reports.Close()
	}
}

// update points the reading at the present endpoints, and the reports at the present
// workload.
func (u *upstream) update() {
	if u == nil {
		return
	}
	u.openReports()
	if u.group == nil {
		return
	}
	interval := u.sources.spec.Interval
	if w := u.sources.workload; w != nil && w.Replicas == 0 {
		interval = min(interval, wakeInterval)
	}
	u.group.SetInterval(interval)
	targets, err := u.targets()
	if errors.Is(err, cluster.ErrNotSynced) {
		return // the last known targets apply
	}
	u.err = err
	u.group.Set(targets)
}

// openReports accepts the reports for the workload, whose name may have changed.
func (u *upstream) openReports() {
	s := u.sources
	name := s.object.Name
	if s.workload != nil {
		name = s.workload.Name
	}
	if s.opts.Reports == nil || u.reports != nil && u.workload == name {
		return
	}
	if u.reports != nil {
		u.reports.Close()
	}
	u.workload = name
	u.reports = s.opts.Reports.Open(push.Config{
		Namespace: s.object.Namespace, Workload: name,
		Selection: s.spec.Upstream.Selection, Window: u.window,
		OnReport: func() { u.wake(0) },
	})
}

func (u *upstream) targets() ([]scrape.Target, error) {
	s, t := u.sources, u.sources.spec.Upstream
	var all []scrape.Target
	add := func(name, uid, instance, pod, at string) {
		all = append(all, scrape.Target{
			Name: name, UID: uid, URL: at, Ready: true,
			Labels: labels.FromStrings("namespace", s.object.Namespace, "job", "upstream", "instance", instance, "pod", pod),
		})
	}
	for _, at := range t.URLs {
		parsed, err := url.Parse(at)
		if err != nil {
			return nil, err
		}
		// The query string may hold a secret, and is no part of the name.
		name := parsed.Scheme + "://" + parsed.Host + parsed.Path
		if slices.ContainsFunc(all, func(t scrape.Target) bool { return t.Name == name }) {
			name += "#" + strconv.Itoa(len(all))
		}
		add(name, "", name, "", parsed.String())
	}
	if t.Service.Name == "" {
		return all, nil
	}
	if s.opts.Cluster == nil {
		return nil, fmt.Errorf("%s: this scaler runs without Kubernetes", t.Service)
	}
	endpoints, err := s.opts.Cluster.Endpoints(s.object.Namespace, t.Service.Name, t.Service.Port)
	if err != nil {
		return nil, err
	}
	if len(endpoints) == 0 {
		return nil, fmt.Errorf("%s: no serving endpoint that is a pod of this namespace", t.Service)
	}
	for _, e := range endpoints {
		address := net.JoinHostPort(e.IP, strconv.Itoa(e.Port))
		add(address, e.UID, address, e.Pod, "http://"+address+t.Path)
	}
	return all, nil
}

// named is the URL under the name that the metadata give it: a Service is read at the
// addresses of its endpoints.
func (u *upstream) named(at *url.URL) *url.URL {
	service := u.sources.spec.Upstream.Service.Name
	if service == "" {
		return at
	}
	return &url.URL{Scheme: at.Scheme, Host: net.JoinHostPort(service+"."+u.sources.object.Namespace+".svc", at.Port())}
}

// observe returns what the upstream shows.
func (u *upstream) observe() evidence.Upstream {
	if u == nil {
		return evidence.Upstream{}
	}
	out := evidence.Upstream{Samples: evidence.Samples{Window: u.window}, Err: u.err}
	if u.group != nil {
		out.Read, out.Statuses = true, u.group.Status()
	}
	if u.reports != nil {
		out.Reports = u.reports.Status()
	}
	return out
}
