package prometheus

import (
	"context"
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"golang.org/x/sync/errgroup"

	"github.com/inference-scaler/inference-scaler/metricsource"
	"github.com/inference-scaler/inference-scaler/metricsource/httpclient"
	"github.com/inference-scaler/inference-scaler/metricsource/schedule"
)

const (
	// podsPerQuery bounds the pods of one query: of maxElements, each may have 100.
	podsPerQuery = 100
	// rememberPods is how long a pod that left the group is known as such: a server
	// returns its series for as long as its own look-back, 5 minutes by default.
	rememberPods = 10 * time.Minute
)

var errNotAsked = errors.New("not asked yet")

// Config says what a server is asked for one group, and how.
type Config struct {
	// Address is the URL that the API's own path is appended to, without a query string.
	Address  string
	Interval time.Duration // between two rounds of queries
	Timeout  time.Duration // of one query
	// Permit refuses addresses that must not be dialled; nil permits all.
	Permit func(netip.Addr) error
	// Credentials for the server; nil: none. See httpclient.Options.
	Credentials func(context.Context, *url.URL) (*httpclient.Credentials, error)
	Window      *metricsource.Window
	// Selection is what is asked of each pod; nil, or without series: nothing. The server's
	// series have the labels namespace, with the value Namespace, and pod.
	Selection *metricsource.Selection
	Namespace string
	// Queries are asked as they are. Selector says where their results are.
	Queries []metricsource.RemoteQuery
	// OnRead is called after each round of queries, answered or not. It must be quick.
	OnRead func()
}

// Target is a pod of a group.
type Target struct {
	Name string // unique in its group: the label pod of its series at the server
	UID  string // another UID under the same name is another target
	// Ready: a pod that becomes ready is asked for at once.
	Ready  bool
	Labels labels.Labels // every series of the target gets these
}

// Group is the pods of one workload and its own queries, answered by one server and
// written to one window.
type Group struct {
	poller *Poller
	cfg    Config
	server *server
	life   context.Context
	end    context.CancelFunc

	mu       sync.Mutex
	pods     map[string]*pod
	left     map[string]time.Time // pods that left the group, by name
	queries  []*ownQuery
	whole    metricsource.Status // of the server, by the own queries
	set      bool                // once
	last     time.Time           // when a round began or ended last
	failures int                 // rounds in a row without any answer
}

// Open adds a group without pods. It must be closed. It asks nothing before the
// first Set. An address that is no URL is an error of each query.
func (p *Poller) Open(cfg Config) *Group {
	if cfg.Selection != nil && cfg.Selection.PodSelector("", nil) == "" {
		cfg.Selection = nil
	}
	g := &Group{
		poller: p,
		cfg:    cfg,
		server: p.connect(cfg),
		pods:   map[string]*pod{},
		left:   map[string]time.Time{},
		whole:  metricsource.Status{Target: cfg.Address, Err: errNotAsked},
	}
	g.life, g.end = context.WithCancel(context.Background())
	for _, q := range cfg.Queries {
		g.queries = append(g.queries, newQuery(q, cfg.Window))
	}
	return g
}

// Set makes the given pods those of the group: new ones are asked for at once,
// missing ones are gone, with their series.
func (g *Group) Set(targets []Target) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.life.Err() != nil {
		return
	}
	now := time.Now()
	changed := !g.set
	g.set = true
	keep := make(map[string]bool, len(targets))
	for _, want := range targets {
		keep[want.Name] = true
		have := g.pods[want.Name]
		if have != nil && have.spec.UID != want.UID {
			have.remove()
			have = nil
		}
		if have == nil {
			g.pods[want.Name] = newPod(want, g.cfg.Window)
			delete(g.left, want.Name)
			changed = true
		} else if !have.setReady(want.Ready) && want.Ready {
			changed = true
		}
	}
	for name, p := range g.pods {
		if !keep[name] {
			p.remove()
			delete(g.pods, name)
			g.left[name] = now
		}
	}
	for name, at := range g.left {
		if now.Sub(at) > rememberPods {
			delete(g.left, name)
		}
	}
	if changed && g.asks() {
		g.poller.queue.By(g, soon(now, g.last))
	}
}

// asks reports whether there is anything to ask.
func (g *Group) asks() bool {
	return len(g.queries) > 0 || g.cfg.Selection != nil && len(g.pods) > 0
}

// Status returns what is known of each pod, by name. A pod's Err is nil while its
// series are not found yet, and Answered is zero. With own queries, the last Status is
// that of the server as a whole, under its address: Answered is when it last answered
// any of them. Without a Selection, the pods have the server's.
func (g *Group) Status() []metricsource.Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]metricsource.Status, 0, len(g.pods)+1)
	for name, p := range g.pods {
		st := p.status
		if g.cfg.Selection == nil {
			st = g.whole
			st.Target = name
		}
		all = append(all, st)
	}
	slices.SortFunc(all, func(a, b metricsource.Status) int { return strings.Compare(a.Target, b.Target) })
	if len(g.queries) > 0 {
		all = append(all, g.whole)
	}
	return all
}

// Queries returns what is known of each own query, in the order of the Config.
func (g *Group) Queries() []metricsource.QueryStatus {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]metricsource.QueryStatus, 0, len(g.queries))
	for _, q := range g.queries {
		all = append(all, q.status)
	}
	return all
}

// Close ends a round under way, and takes all series out of the window. The group
// must not be used any more.
func (g *Group) Close() {
	g.mu.Lock()
	g.end()
	g.poller.queue.Remove(g)
	for _, p := range g.pods {
		p.remove()
	}
	clear(g.pods)
	for _, q := range g.queries {
		q.samples.Remove()
	}
	g.mu.Unlock()
	g.server.transport.Close()
}

// round asks all queries, as many at once as there are connections. Each answer is
// written as it comes.
func (g *Group) round(ctx context.Context) {
	g.mu.Lock()
	g.last = time.Now()
	pods := make([]*pod, 0, len(g.pods))
	for _, p := range g.pods {
		pods = append(pods, p)
	}
	g.mu.Unlock()
	slices.SortFunc(pods, func(a, b *pod) int { return strings.Compare(a.spec.Name, b.spec.Name) })
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(g.life, cancel)()
	var all []func() error
	for _, q := range g.queries {
		all = append(all, func() error { return g.ask(ctx, q, pods) })
	}
	if g.cfg.Selection != nil {
		for some := range slices.Chunk(pods, podsPerQuery) {
			all = append(all, func() error { return g.askFor(ctx, some) })
		}
	}
	errs := make([]error, len(all))
	var asking errgroup.Group
	asking.SetLimit(maxConnections)
	for i, ask := range all {
		asking.Go(func() error { errs[i] = ask(); return nil }) // one error does not end the round
	}
	_ = asking.Wait()
	if g.note(ctx, errs) {
		g.cfg.OnRead()
	}
}

// note notes the outcome of a round; false where it was cancelled, or asked nothing.
func (g *Group) note(ctx context.Context, errs []error) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cancelled(ctx) || len(errs) == 0 {
		return false
	}
	g.last = time.Now()
	g.failures++
	if slices.Contains(errs, nil) {
		g.failures = 0
	}
	if own := errs[:len(g.queries)]; len(own) > 0 {
		g.whole.Tried, g.whole.Err = g.last, own[0]
		if slices.Contains(own, nil) {
			g.whole.Answered, g.whole.Err = g.last, nil
		}
	}
	return true
}

// cancelled reports whether the round's answers come too late: the group was closed, or
// the poller stops.
func (g *Group) cancelled(ctx context.Context) bool { return ctx.Err() != nil || g.life.Err() != nil }

// reschedule queues the next round.
func (g *Group) reschedule(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.life.Err() == nil && g.asks() {
		g.poller.queue.By(g, now.Add(schedule.BackOff(g.cfg.Interval, g.failures)))
	}
}
