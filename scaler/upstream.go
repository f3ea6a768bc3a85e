package scaler

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/inference-scaler/inference-scaler/metricsource"
	"github.com/inference-scaler/inference-scaler/metricsource/push"
	"github.com/inference-scaler/inference-scaler/metricsource/scrape"
	"github.com/inference-scaler/inference-scaler/scaler/decision"
	"github.com/inference-scaler/inference-scaler/scaler/trigger"
)

// wakeInterval is how often an upstream is read while the workload is at zero
// replicas: it is all there is to see, and somebody is waiting.
const wakeInterval = 250 * time.Millisecond

// upstream is what shows of a trigger's work before it reaches a pod, read or
// reported: in a window of its own, so that no query sums it with the pods' samples.
type upstream struct {
	trigger *trigger.Upstream
	window  *metricsource.Window
	err     error         // why what is to be read is not known
	group   *scrape.Group // nil where there is nothing to read

	reports  *push.Group // nil where nothing can be reported, or the workload is not known yet
	workload string      // that they are for
}

// openUpstream returns nil where nothing is to be read and nothing can be reported.
func (l *live) openUpstream() *upstream {
	t := l.trigger.Upstream
	if l.trigger.Load == nil || !t.Named() && l.scaler.opts.Reports == nil {
		return nil
	}
	u := &upstream{trigger: t, window: metricsource.NewWindow(t.Want.Lookback())}
	if !t.Named() {
		return u
	}
	u.err = errors.New("not read yet")
	u.group = l.scaler.opts.Scraper.Open(scrape.Config{
		Interval:    l.trigger.Interval,
		Timeout:     l.timeout(),
		Want:        t.Want,
		Window:      u.window,
		Permit:      l.permitUpstream,
		Verify:      true,
		OnRead:      func() { l.scaler.wake(l, gather) },
		Credentials: l.credentials.For(l.upstreamNamed),
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

// follow has the upstream's present endpoints read, as often as the workload's
// replicas make it worth.
func (u *upstream) follow(l *live) {
	if u == nil {
		return
	}
	u.listen(l)
	if u.group == nil {
		return
	}
	interval := l.trigger.Interval
	if l.workload != nil && l.workload.Replicas == 0 {
		interval = min(interval, wakeInterval)
	}
	u.group.SetInterval(interval)
	targets, err := l.upstreamTargets()
	if errors.Is(err, cluster.ErrNotSynced) {
		return // what was known stays
	}
	u.err = err
	u.group.Set(targets)
}

// listen takes the reports for the workload, whose name may have changed.
func (u *upstream) listen(l *live) {
	name := l.name
	if l.workload != nil {
		name = l.workload.Name
	}
	if l.scaler.opts.Reports == nil || u.reports != nil && u.workload == name {
		return
	}
	if u.reports != nil {
		u.reports.Close()
	}
	u.workload = name
	u.reports = l.scaler.opts.Reports.Open(push.Config{
		Namespace: l.namespace, Workload: name,
		Want: u.trigger.Want, Window: u.window,
		OnReport: func() { l.scaler.wake(l, 0) },
	})
}

func (l *live) upstreamTargets() ([]scrape.Target, error) {
	t := l.trigger.Upstream
	var all []scrape.Target
	add := func(name, uid, instance, pod, at string) {
		all = append(all, scrape.Target{
			Name: name, UID: uid, URL: at, Ready: true,
			Labels: labels.FromStrings("namespace", l.namespace, "job", "upstream", "instance", instance, "pod", pod),
		})
	}
	for _, at := range t.URLs {
		u, err := url.Parse(at)
		if err != nil {
			return nil, err
		}
		// Its query string may hold a secret: it is no part of the name.
		name := u.Scheme + "://" + u.Host + u.Path
		if slices.ContainsFunc(all, func(t scrape.Target) bool { return t.Name == name }) {
			name += "#" + strconv.Itoa(len(all))
		}
		add(name, "", name, "", u.String())
	}
	if t.Service.Name == "" {
		return all, nil
	}
	if l.scaler.opts.Cluster == nil {
		return nil, fmt.Errorf("%s: this scaler runs without Kubernetes", t.Service)
	}
	endpoints, err := l.scaler.opts.Cluster.Endpoints(l.namespace, t.Service.Name, t.Service.Port)
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

// upstreamNamed is the URL by the name that the metadata give it: what is read of
// a Service are addresses.
func (l *live) upstreamNamed(at *url.URL) *url.URL {
	service := l.trigger.Upstream.Service.Name
	if service == "" {
		return at
	}
	return &url.URL{Scheme: at.Scheme, Host: net.JoinHostPort(service+"."+l.namespace+".svc", at.Port())}
}

// permitUpstream refuses to dial what the author of the metadata could not reach:
// with Kubernetes, anything but pods of the namespace and what the operator of
// this scaler allows.
func (l *live) permitUpstream(addr netip.Addr) error {
	if err := neverRead(addr); err != nil {
		return err
	}
	if c := l.scaler.opts.Cluster; c == nil || c.HasPod(l.namespace, addr) || l.allowed(addr) {
		return nil
	}
	return fmt.Errorf("address %s is refused: it is no pod of namespace %s, and --upstream-allow does not name it", addr, l.namespace)
}

// input is what a decision looks at of the upstream.
func (u *upstream) input(ctx context.Context, l *live, a *answer) decision.Upstream {
	if u == nil {
		return decision.Upstream{}
	}
	in := u.unread(l, a.at)
	if !in.Asked {
		return in
	}
	for _, s := range []struct {
		name  string
		query *metricsource.Query
		to    *decision.Reading
	}{
		{"upstream", u.trigger.Demand, &in.Demand},
		{"arrivals", u.trigger.Arrivals, &in.Arrivals},
	} {
		if s.query == nil {
			continue
		}
		result, err := s.query.Eval(ctx, u.window, a.at)
		*s.to = reading(result, err, instanceOf)
		s.to.Newest = u.window.Updated()
		a.signals = append(a.signals, signal{s.name, s.query, result, s.to.Err})
	}
	return in
}

// unread is that without what the queries say.
func (u *upstream) unread(l *live, now time.Time) decision.Upstream {
	if u == nil {
		return decision.Upstream{}
	}
	in := decision.Upstream{InFlight: u.trigger.InFlight}
	if u.err != nil {
		in.Err = u.err.Error()
	}
	if u.group != nil {
		for _, st := range u.group.Status() {
			in.Sources = append(in.Sources, l.pod(st.Target, true, st, now))
		}
	}
	if u.reports != nil {
		for _, st := range u.reports.Status() {
			in.Sources = append(in.Sources, reporter(st, now))
		}
	}
	in.Asked = u.group != nil || len(in.Sources) > 0
	return in
}

// reporter is a source whose report stands: for as long as that is so, it is never late.
func reporter(st metricsource.Status, now time.Time) decision.Pod {
	p := decision.Pod{Name: st.Target, Ready: true, State: decision.Answering, Age: now.Sub(st.Tried)}
	if st.Err != nil {
		p.State, p.Fault = decision.Faulty, st.Err.Error()
	}
	return p
}

// besides returns the pods' samples without what the upstream tells in their stead,
// and whether that is so for any that the query reads. One that is silent tells nothing.
func (u *upstream) besides(l *live, pods *metricsource.Window, q *metricsource.Query, at time.Time) (storage.Queryable, bool) {
	if u == nil || u.trigger.InFlight || !u.window.Has(q) ||
		!slices.ContainsFunc(u.unread(l, at).Sources, func(p decision.Pod) bool { return p.State == decision.Answering }) {
		return pods, false
	}
	return pods.Without(u.window), true
}
