package evaluator

import (
	"errors"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/inference-scaler/inference-scaler/metricsource"
	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	promsource "github.com/inference-scaler/inference-scaler/metricsource/prometheus"
	"github.com/inference-scaler/inference-scaler/metricsource/scrape"
	"github.com/inference-scaler/inference-scaler/scaler/credentials"
	"github.com/inference-scaler/inference-scaler/scaler/evidence"
	"github.com/inference-scaler/inference-scaler/scaler/trigger"
)

// maxTimeout bounds a reading whatever the trigger's staleAfter is: a target that hangs
// occupies a slot that others wait for.
const maxTimeout = 5 * time.Second

// sources are where the samples of one trigger come from, kept up to date with its
// workload. The lock of the trigger's evaluation guards them.
type sources struct {
	opts   Options
	object cluster.NamespacedName
	spec   *trigger.Trigger
	opened time.Time

	changed  atomic.Bool // the workload may have changed since it was observed
	workload *cluster.Workload
	cycle    error // the trigger's leaders lead back to it

	pods     podSource
	window   *metricsource.Window
	departed map[string]bool // pods, by UID, that terminate and do not answer
	tried    bool            // every target, at least once
	permit   *permit
	upstream *upstream
}

// podSource writes the samples of the workload's pods into a window.
type podSource interface {
	// set replaces the targets.
	set(targets []target)
	Status() []metricsource.Status
	Close()
}

// target is a pod, or an endpoint that the trigger names.
type target struct {
	name, uid string
	address   string // host:port
	ready     bool
	labels    labels.Labels
}

// openSources opens the sources of a trigger. wake has it evaluated after a time.
func openSources(opts Options, o cluster.NamespacedName, spec *trigger.Trigger, wake func(time.Duration)) *sources {
	s := &sources{opts: opts, object: o, spec: spec, opened: time.Now(), departed: map[string]bool{}, permit: newPermit(opts, o.Namespace)}
	s.changed.Store(true)
	secrets := credentials.Open(opts.Secrets, o.Namespace, spec.AuthSecret, spec.CASecret)
	if spec.Load != nil {
		s.window = metricsource.NewWindow(spec.Selection.Lookback())
		s.pods = s.openPods(secrets, wake)
	}
	s.upstream = openUpstream(s, secrets, wake)
	return s
}

// timeout bounds what is read for the trigger.
func (s *sources) timeout() time.Duration { return min(s.spec.StaleAfter/2, maxTimeout) }

func (s *sources) openPods(secrets *credentials.Source, wake func(time.Duration)) podSource {
	t := s.spec
	if p := t.Prometheus; p != nil {
		return queried{s.opts.Prometheus.Open(promsource.Config{
			Address:     p.Address,
			Interval:    t.Interval,
			Timeout:     s.timeout(),
			Permit:      s.permit.namespace,
			Credentials: secrets.For(func(at *url.URL) *url.URL { return at }),
			Window:      s.window,
			Selection:   t.Selection,
			Namespace:   s.object.Namespace,
			Queries:     p.Queries,
			OnRead:      func() { wake(0) },
		})}
	}
	return scraped{s.opts.Scraper.Open(scrape.Config{
		Interval:  t.Interval,
		Timeout:   s.timeout(),
		Selection: t.Selection,
		Window:    s.window,
		Permit:    s.permit.workload,
		OnRead:    func() { wake(batchDelay) },
	}), t}
}

// scraped reads the pods themselves.
type scraped struct {
	*scrape.Group
	spec *trigger.Trigger
}

func (s scraped) set(targets []target) {
	all := make([]scrape.Target, len(targets))
	for i, t := range targets {
		all[i] = scrape.Target{Name: t.name, UID: t.uid, URL: s.spec.Scheme + "://" + t.address + s.spec.Path, Ready: t.ready, Labels: t.labels}
	}
	s.Set(all)
}

// queried asks a Prometheus about the pods.
type queried struct{ *promsource.Group }

func (q queried) set(targets []target) {
	all := make([]promsource.Target, len(targets))
	for i, t := range targets {
		all[i] = promsource.Target{Name: t.name, UID: t.uid, Ready: t.ready, Labels: t.labels}
	}
	q.Set(all)
}

// update asks the cluster for the workload if it may have changed, and points the sources
// at it. findCycle is an error if the workload follows itself.
func (s *sources) update(findCycle func() error) error {
	if !s.changed.Swap(false) {
		return nil
	}
	if err := s.find(); err != nil {
		s.changed.Store(true)
		return err
	}
	if s.cycle = findCycle(); s.cycle != nil {
		s.changed.Store(true)
		if s.spec.Load == nil {
			return s.cycle
		}
	}
	if s.pods != nil {
		s.pods.set(s.targets())
	}
	s.upstream.update()
	return nil
}

// find asks the cluster for the workload.
func (s *sources) find() error {
	if s.opts.Cluster == nil {
		return nil
	}
	w, err := s.opts.Cluster.Workload(s.object.Namespace, s.object.Name)
	if errors.Is(err, cluster.ErrNotFound) && s.pods != nil {
		// The addresses of its pods may be another workload's next.
		s.permit.allowOnly(nil)
		s.pods.set(nil)
	}
	if err != nil {
		return err
	}
	s.workload = &w
	s.permit.allowOnly(w.Pods)
	maps.DeleteFunc(s.departed, func(uid string, _ bool) bool {
		return !slices.ContainsFunc(w.Pods, func(p cluster.Pod) bool { return p.UID == uid })
	})
	return nil
}

// observe returns what the sources show.
func (s *sources) observe(now time.Time) evidence.Observation {
	o := evidence.Observation{Workload: s.workload, Opened: s.opened, Upstream: s.upstream.observe()}
	s.tried = true
	if s.pods != nil {
		o.Pods = evidence.Samples{Window: s.window, Statuses: s.statuses(now)}
	}
	for _, st := range slices.Concat(o.Pods.Statuses, o.Upstream.Statuses) {
		s.tried = s.tried && !st.Tried.IsZero()
	}
	o.Departed = s.departed // after statuses, which adds to it
	if p, ok := s.pods.(queried); ok {
		o.Queries = map[string]metricsource.QueryStatus{}
		for _, q := range p.Queries() {
			o.Queries[q.Target] = q
		}
	}
	return o
}

// statuses are those of the targets. Pods that ended are not read any more: what is left
// of them must not count.
func (s *sources) statuses(now time.Time) []metricsource.Status {
	all := s.pods.Status()
	ending := func(p cluster.Pod) bool { return p.Terminating && !s.departed[p.UID] }
	if s.workload == nil || !slices.ContainsFunc(s.workload.Pods, ending) {
		return all
	}
	byName, ended := evidence.ByTarget(all), false
	for _, p := range s.workload.Pods {
		if ending(p) && evidence.Ended(s.spec, p, byName[p.Name], now) {
			s.departed[p.UID], ended = true, true
		}
	}
	if ended {
		s.pods.set(s.targets())
	}
	return all
}

// targets are what is read: the trigger's endpoints, else the pods that have an address
// and have not ended.
func (s *sources) targets() []target {
	job := s.object.Name
	if s.workload != nil {
		job = s.workload.Name
	}
	var all []target
	add := func(name, uid, address string, ready bool) {
		t := target{name: name, uid: uid, address: address, ready: ready}
		if s.spec.Prometheus != nil { // which knows the instances of a pod
			t.labels = labels.FromStrings("namespace", s.object.Namespace, "job", job, "pod", name)
		} else {
			t.labels = labels.FromStrings("namespace", s.object.Namespace, "job", job, "pod", name, "instance", address)
		}
		all = append(all, t)
	}
	for _, e := range s.spec.Endpoints {
		add(e, "", e, true)
	}
	if len(all) > 0 || s.workload == nil {
		return all
	}
	for _, p := range s.workload.Pods {
		if (p.IP != "" || s.spec.Prometheus != nil) && !p.Finished() && !s.departed[p.UID] {
			add(p.Name, p.UID, net.JoinHostPort(p.IP, strconv.Itoa(s.spec.Port)), p.Ready)
		}
	}
	return all
}

func (s *sources) close() {
	if s.pods != nil {
		s.pods.Close()
	}
	s.upstream.close()
}

// addresses are those of the pods that may answer.
func addresses(pods []cluster.Pod) map[netip.Addr]bool {
	own := make(map[netip.Addr]bool, len(pods))
	for _, p := range pods {
		if addr, err := netip.ParseAddr(p.IP); err == nil && !p.Finished() {
			own[addr.Unmap()] = true
		}
	}
	return own
}
