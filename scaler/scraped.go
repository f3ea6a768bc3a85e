package scaler

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/inference-scaler/inference-scaler/metricsource"
	"github.com/inference-scaler/inference-scaler/metricsource/scrape"
	"github.com/inference-scaler/inference-scaler/scaler/decision"
)

// scraped is the source that reads a trigger's pods, or endpoints, itself.
type scraped struct {
	live   *live
	window *metricsource.Window
	group  *scrape.Group
	gone   map[string]bool                     // pods, by UID, that are terminating and silent
	ownIPs atomic.Pointer[map[netip.Addr]bool] // of the workload's pods
	said   map[*metricsource.Query]said        // of its own samples
}

// said is what a query that hangs on values alone yielded, and of which state of the window.
type said struct {
	version uint64
	result  metricsource.Result
}

func (l *live) openScraped() source {
	t := l.trigger
	s := &scraped{live: l, window: metricsource.NewWindow(t.Want.Lookback()), gone: map[string]bool{}, said: map[*metricsource.Query]said{}}
	s.group = l.scaler.opts.Scraper.Open(scrape.Config{
		Interval: t.Interval,
		Timeout:  l.timeout(),
		Want:     t.Want,
		Window:   s.window,
		Permit:   s.permit,
		OnRead:   func() { l.scaler.wake(l, gather) },
	})
	return s
}

func (s *scraped) close() { s.group.Close() }

func (s *scraped) follow(gone bool) {
	if gone {
		// Its pods' addresses may be another workload's next.
		s.ownIPs.Store(nil)
		s.group.Set(nil)
		return
	}
	if w := s.live.workload; w != nil {
		s.ownIPs.Store(addresses(w.Pods))
		s.forget(w.Pods)
	}
	s.group.Set(s.targets())
}

func (s *scraped) ask(ctx context.Context, _ string, q *metricsource.Query, at time.Time) (metricsource.Result, decision.Reading) {
	samples, elsewhere := s.live.upstream.besides(s.live, s.window, q, at)
	version, _ := s.window.Version(at) // before: what comes meanwhile may not be in the result
	last, known := s.said[q]
	result, err := last.result, error(nil)
	if elsewhere || !known || last.version != version {
		result, err = q.Eval(ctx, samples, at)
	}
	// After: one that came meanwhile may have taken the place of what it would have found.
	_, whole := s.window.Version(at)
	if err == nil && !elsewhere && whole && q.Timeless() {
		s.said[q] = said{version, result}
	}
	r := reading(result, err, podOf)
	r.Elsewhere, r.Newest = elsewhere, s.window.Updated()
	return result, r
}

// pods says of each pod, or endpoint, how far its samples can be believed. A pod
// that is terminating and does not answer is gone, with its samples.
func (s *scraped) pods(now time.Time) (all []decision.Pod, tried bool) {
	l := s.live
	statuses := map[string]metricsource.Status{}
	tried = true
	for _, st := range s.group.Status() {
		statuses[st.Target] = st
		tried = tried && !st.Tried.IsZero()
	}
	if len(l.trigger.Endpoints) > 0 || l.workload == nil {
		for _, e := range l.trigger.Endpoints {
			all = append(all, l.pod(e, true, statuses[e], now))
		}
		return all, tried
	}
	left := false
	for _, p := range l.workload.Pods {
		if p.Finished() || s.gone[p.UID] {
			continue
		}
		pod := l.pod(p.Name, p.Ready && !p.Terminating, statuses[p.Name], now)
		if !statuses[p.Name].Tried.IsZero() && p.Terminating && !pod.State.Speaks() {
			s.gone[p.UID], left = true, true
			continue
		}
		all = append(all, pod)
	}
	if left {
		s.group.Set(s.targets())
	}
	return all, tried
}

// forget drops the marks of pods that are no more.
func (s *scraped) forget(pods []cluster.Pod) {
	maps.DeleteFunc(s.gone, func(uid string, _ bool) bool {
		return !slices.ContainsFunc(pods, func(p cluster.Pod) bool { return p.UID == uid })
	})
}

// targets are what is read for this trigger: its endpoints, else the pods that
// have an address and have not come to their end.
func (s *scraped) targets() []scrape.Target {
	l := s.live
	job := l.name
	if l.workload != nil {
		job = l.workload.Name
	}
	var all []scrape.Target
	add := func(name, uid, address string, ready bool) {
		all = append(all, scrape.Target{
			Name:   name,
			UID:    uid,
			URL:    l.trigger.Scheme + "://" + address + l.trigger.Path,
			Ready:  ready,
			Labels: labels.FromStrings("namespace", l.namespace, "job", job, "pod", name, "instance", address),
		})
	}
	for _, e := range l.trigger.Endpoints {
		add(e, "", e, true)
	}
	if len(all) > 0 || l.workload == nil {
		return all
	}
	for _, p := range l.workload.Pods {
		if p.IP != "" && !p.Finished() && !s.gone[p.UID] {
			add(p.Name, p.UID, net.JoinHostPort(p.IP, strconv.Itoa(l.trigger.Port)), p.Ready)
		}
	}
	return all
}

// permit refuses to dial what the author of the metadata could not reach: with
// Kubernetes, anything but the workload's own pods and what the operator of this
// scaler allows; ever, the addresses of this machine's link.
func (s *scraped) permit(addr netip.Addr) error {
	if err := neverRead(addr); err != nil {
		return err
	}
	if own := s.ownIPs.Load(); s.live.scaler.opts.Cluster == nil || own != nil && (*own)[addr] || s.live.allowed(addr) {
		return nil
	}
	return fmt.Errorf("address %s is refused: it is no pod of this workload, and --upstream-allow does not name it", addr)
}

func addresses(pods []cluster.Pod) *map[netip.Addr]bool {
	own := make(map[netip.Addr]bool, len(pods))
	for _, p := range pods {
		if addr, err := netip.ParseAddr(p.IP); err == nil && !p.Finished() {
			own[addr.Unmap()] = true
		}
	}
	return &own
}
