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

// Config says how the targets of one group are read.
type Config struct {
	Interval  time.Duration // between two readings of a target
	Timeout   time.Duration // for one reading
	Selection *metricsource.Selection
	Window    *metricsource.Window
	// Permit refuses addresses that must not be dialled; nil permits all.
	Permit func(netip.Addr) error
	// Verify the certificates of https targets, against the roots of this machine.
	// Those of pods are not: a pod's certificate cannot name an address that it did
	// not choose, and what answers there is that pod, as for the kubelet's probes.
	Verify bool
	// Credentials for a target; nil: none. See httpclient.Options.
	Credentials func(context.Context, *url.URL) (*httpclient.Credentials, error)
	// OnRead is called after each reading of a target, from many goroutines. It
	// must be quick.
	OnRead func()
}

// Target is what a group reads.
type Target struct {
	Name string // unique in its group: the pod, or the address
	UID  string // another UID under the same name is another target
	URL  string
	// Ready: what becomes ready is read at once, whatever its back-off.
	Ready  bool
	Labels labels.Labels // every series of the target gets these
}

// Group is the targets of one workload, read alike into one window.
type Group struct {
	scraper *Scraper
	cfg     Config
	names   *exposition.Names
	// putNames gives them up.
	putNames func()
	filter   string            // the query string that asks for the wanted names only; "" where it cannot be said
	bits     map[string]uint64 // a bit for each name that the filter asks for
	phase    time.Duration
	every    atomic.Int64        // the interval, in ns
	slots    *semaphore.Weighted // of the scraper's, those that one group may hold
	bodies   bodySlots           // likewise

	mu      sync.Mutex
	targets map[string]*target
}

var phaseSeed = maphash.MakeSeed()

// Open adds a group without targets. It must be closed.
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
	g.names, g.putNames = s.names.take(exact, match)
	g.every.Store(int64(cfg.Interval))
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

// Set makes the given targets those of the group: new ones are read at once,
// missing ones are gone, with their series and their connections.
func (g *Group) Set(targets []Target) {
	g.mu.Lock()
	defer g.mu.Unlock()
	keep := make(map[string]bool, len(targets))
	for _, want := range targets {
		keep[want.Name] = true
		have := g.targets[want.Name]
		if have != nil && (have.spec.UID != want.UID || have.spec.URL != want.URL) {
			have.close()
			have = nil
		}
		switch {
		case have == nil:
			t := newTarget(g, want, g.offset(want.Name, len(targets)))
			g.targets[want.Name] = t
			g.scraper.metrics.targets.Inc()
			g.scraper.queue.At(t, time.Now())
		case !have.setReady(want.Ready) && want.Ready:
			g.scraper.queue.Hasten(have, time.Now())
		}
	}
	for name, t := range g.targets {
		if !keep[name] {
			t.close()
			delete(g.targets, name)
		}
	}
}

// SetInterval changes the time between two readings of a target.
func (g *Group) SetInterval(interval time.Duration) {
	if before := time.Duration(g.every.Swap(int64(interval))); interval >= before {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, t := range g.targets {
		g.scraper.queue.Hasten(t, time.Now().Add(interval))
	}
}

func (g *Group) interval() time.Duration { return time.Duration(g.every.Load()) }

// Status returns what is known of each target, by name.
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

// Close removes all targets. The group must not be used any more.
func (g *Group) Close() {
	g.Set(nil)
	g.putNames()
}

// offset spreads the readings of a group over its interval, a millisecond for
// each target, from a phase of the group's own: few targets are read together
// and judged once, many do not come in one burst.
func (g *Group) offset(name string, of int) time.Duration {
	spread := min(time.Duration(of)*time.Millisecond, g.cfg.Interval)
	return time.Duration(maphash.String(phaseSeed, name) % uint64(spread+1))
}
