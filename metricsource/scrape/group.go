package scrape

import (
	"context"
	"hash/maphash"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"golang.org/x/sync/semaphore"

	"github.com/inference-scaler/inference-scaler/metricsource"
	"github.com/inference-scaler/inference-scaler/metricsource/exposition"
	"github.com/inference-scaler/inference-scaler/metricsource/httpclient"
)

// Config configures the scrapes of one group.
type Config struct {
	Interval  time.Duration // between two scrapes of a target
	Timeout   time.Duration // of one scrape
	Selection *metricsource.Selection
	Window    *metricsource.Window
	// Permit can reject an address before it is dialled. If it is nil, all addresses are
	// allowed.
	Permit func(netip.Addr) error
	// Verify the certificates of https targets, with the roots of the system. Set it to
	// false for pods: a pod's certificate cannot contain its IP address, which is not known
	// in advance. As for the kubelet's probes, the address identifies the pod.
	Verify bool
	// Credentials for a target; nil if there are none. See httpclient.Options.
	Credentials func(context.Context, *url.URL) (*httpclient.Credentials, error)
	// OnRead is called after each scrape of a target, concurrently. It must be fast.
	OnRead func()
}

// Target is a target of a group.
type Target struct {
	Name string // unique in its group: the pod or the address
	UID  string // a new UID under the same name is a new target
	URL  string
	// Ready is the readiness of the pod. A target that becomes ready is scraped
	// immediately, despite its back-off.
	Ready  bool
	Labels labels.Labels // added to every series of the target
}

// Group contains the targets of one workload. They have the same configuration and the
// same window.
type Group struct {
	scraper *Scraper
	cfg     Config
	names   *exposition.Names
	// releaseNames releases the shared names.
	releaseNames func()
	filter       string              // the query string for the selected names; "" if a filter is impossible
	bits         map[string]uint64   // a bit for each name in the filter
	phase        time.Duration       // of the scrapes in the interval; see offset
	readInterval atomic.Int64        // in ns
	slots        *semaphore.Weighted // limits the scrapes of the group in flight
	bodies       bodySlots           // limits the larger bodies of the group

	mu      sync.Mutex
	targets map[string]*target
}

var phaseSeed = maphash.MakeSeed()

// Open adds a group without targets. The caller must close it.
func (s *Scraper) Open(cfg Config) *Group {
	exact, match := cfg.Selection.Names()
	g := &Group{
		scraper: s,
		cfg:     cfg,
		phase:   rand.N(cfg.Interval),
		slots:   semaphore.NewWeighted(maxInFlightOfGroup),
		bodies:  newBodySlots(2),
		targets: map[string]*target{},
	}
	g.names, g.releaseNames = s.names.acquire(exact, match)
	g.readInterval.Store(int64(cfg.Interval))
	if match == nil {
		g.filter = nameFilter(exact)
	}
	if g.filter != "" {
		g.bits = map[string]uint64{}
		for i, name := range exact {
			g.bits[name] = 1 << i
		}
	}
	return g
}

// Set replaces the targets of the group. New targets are scraped immediately. Targets that
// are not in the list are removed, with their series and connections.
func (g *Group) Set(targets []Target) {
	g.mu.Lock()
	defer g.mu.Unlock()
	keep := make(map[string]bool, len(targets))
	for _, spec := range targets {
		keep[spec.Name] = true
		existing := g.targets[spec.Name]
		if existing != nil && (existing.spec.UID != spec.UID || existing.spec.URL != spec.URL) {
			existing.close()
			existing = nil
		}
		switch {
		case existing == nil:
			t := newTarget(g, spec, g.offset(spec.Name, len(targets)))
			g.targets[spec.Name] = t
			g.scraper.metrics.targets.Inc()
			g.scraper.queue.At(t, time.Now())
		case !existing.setReady(spec.Ready) && spec.Ready:
			g.scraper.queue.Hasten(existing, time.Now())
		}
	}
	for name, t := range g.targets {
		if !keep[name] {
			t.close()
			delete(g.targets, name)
		}
	}
}

// SetInterval changes the time between two scrapes of a target.
func (g *Group) SetInterval(interval time.Duration) {
	if before := time.Duration(g.readInterval.Swap(int64(interval))); interval >= before {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, t := range g.targets {
		g.scraper.queue.Hasten(t, time.Now().Add(interval))
	}
}

func (g *Group) interval() time.Duration { return time.Duration(g.readInterval.Load()) }

// Status returns the status of each target, ordered by name.
func (g *Group) Status() []metricsource.Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]metricsource.Status, 0, len(g.targets))
	for _, t := range g.targets {
		all = append(all, t.snapshot())
	}
	slices.SortFunc(all, func(a, b metricsource.Status) int { return strings.Compare(a.Target, b.Target) })
	return all
}

// Close removes all targets. The group must not be used afterwards.
func (g *Group) Close() {
	g.Set(nil)
	g.releaseNames()
}

// offset returns the time of a target's scrapes after the group's phase. It is a hash of
// the name, within 1 ms per target. A few targets are therefore scraped together, so that
// one evaluation covers them. Many targets do not cause a burst.
func (g *Group) offset(name string, targets int) time.Duration {
	spread := min(time.Duration(targets)*time.Millisecond, g.cfg.Interval)
	return time.Duration(maphash.String(phaseSeed, name) % uint64(spread+1))
}
