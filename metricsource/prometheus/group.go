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
	// podsPerQuery limits the pods of one query, so that each can have 100 of maxElements.
	podsPerQuery = 100
	// departedRetention is how long the group remembers pods that left it. A server returns
	// their series for its lookback, which is 5 minutes by default.
	departedRetention = 10 * time.Minute
)

var errNotQueried = errors.New("not queried yet")

// Config configures the queries of one group.
type Config struct {
	// Address is the base URL of the API, without a query string.
	Address  string
	Interval time.Duration // between two rounds of queries
	Timeout  time.Duration // of one query
	// Permit can reject an address before it is dialled. If it is nil, all addresses are
	// allowed.
	Permit func(netip.Addr) error
	// Credentials for the server; nil if there are none. See httpclient.Options.
	Credentials func(context.Context, *url.URL) (*httpclient.Credentials, error)
	Window      *metricsource.Window
	// Selection of the series of each pod. Without one, or without series, the pods are not
	// queried. At the server, the series must have the labels namespace and pod. The value
	// of namespace is Namespace.
	Selection *metricsource.Selection
	Namespace string
	// Queries are the own queries of the trigger.
	Queries []metricsource.RemoteQuery
	// OnRead is called after each round of queries, successful or not. It must be fast.
	OnRead func()
}

// Target is a pod of a group.
type Target struct {
	Name string // unique in its group: the label pod of its series at the server
	UID  string // a new UID under the same name is a new target
	// Ready is the readiness of the pod. A pod that becomes ready is queried immediately.
	Ready  bool
	Labels labels.Labels // added to every series of the target
}

// Group contains the pods and the own queries of one workload. They have the same server
// and the same window.
type Group struct {
	poller *Poller
	cfg    Config
	server *server

	lifetime context.Context
	cancel   context.CancelFunc

	mu           sync.Mutex
	pods         map[string]*pod
	departed     map[string]time.Time // pods that left the group, by name
	queries      []*ownQuery
	serverStatus metricsource.Status // the combined status of the own queries
	set          bool                // Set was called
	last         time.Time           // start or end of the last round
	failures     int                 // consecutive rounds without a successful query
}

// Open adds a group without pods. The caller must close it. The group sends no queries
// before the first Set. If the address is not a URL, each query fails.
func (p *Poller) Open(cfg Config) *Group {
	if cfg.Selection != nil && cfg.Selection.PodSelector("", nil) == "" {
		cfg.Selection = nil
	}
	g := &Group{
		poller:       p,
		cfg:          cfg,
		server:       p.connect(cfg),
		pods:         map[string]*pod{},
		departed:     map[string]time.Time{},
		serverStatus: metricsource.Status{Target: cfg.Address, Err: errNotQueried},
	}
	g.lifetime, g.cancel = context.WithCancel(context.Background())
	for _, q := range cfg.Queries {
		g.queries = append(g.queries, newQuery(q, cfg.Window))
	}
	return g
}

// Set replaces the pods of the group. New pods are queried immediately. Pods that are not
// in the list are removed, with their series.
func (g *Group) Set(targets []Target) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.lifetime.Err() != nil {
		return
	}
	now := time.Now()
	changed := !g.set
	g.set = true
	keep := make(map[string]bool, len(targets))
	for _, spec := range targets {
		keep[spec.Name] = true
		existing := g.pods[spec.Name]
		if existing != nil && existing.spec.UID != spec.UID {
			existing.remove()
			existing = nil
		}
		if existing == nil {
			g.pods[spec.Name] = newPod(spec, g.cfg.Window)
			delete(g.departed, spec.Name)
			changed = true
		} else if !existing.setReady(spec.Ready) && spec.Ready {
			changed = true
		}
	}
	for name, p := range g.pods {
		if !keep[name] {
			p.remove()
			delete(g.pods, name)
			g.departed[name] = now
		}
	}
	for name, at := range g.departed {
		if now.Sub(at) > departedRetention {
			delete(g.departed, name)
		}
	}
	if changed && g.hasQueries() {
		g.poller.queue.By(g, nextRound(now, g.last))
	}
}

// hasQueries reports whether the group has any query to send.
func (g *Group) hasQueries() bool {
	return len(g.queries) > 0 || g.cfg.Selection != nil && len(g.pods) > 0
}

// Status returns the status of each pod, ordered by name. A pod whose series are not found
// yet has no error, and a zero Answered.
//
// With own queries, the last Status is that of the server, under its address. Its Answered
// is the time of the last successful own query. Without a Selection, the pods have the
// status of the server.
func (g *Group) Status() []metricsource.Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]metricsource.Status, 0, len(g.pods)+1)
	for name, p := range g.pods {
		st := p.status
		if g.cfg.Selection == nil {
			st = g.serverStatus
			st.Target = name
		}
		all = append(all, st)
	}
	slices.SortFunc(all, func(a, b metricsource.Status) int { return strings.Compare(a.Target, b.Target) })
	if len(g.queries) > 0 {
		all = append(all, g.serverStatus)
	}
	return all
}

// Queries returns the status of each own query, in the order of the Config.
func (g *Group) Queries() []metricsource.QueryStatus {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]metricsource.QueryStatus, 0, len(g.queries))
	for _, q := range g.queries {
		all = append(all, q.status)
	}
	return all
}

// Close cancels the current round, and removes all series from the window. The group must
// not be used afterwards.
func (g *Group) Close() {
	g.mu.Lock()
	g.cancel()
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

// round sends all queries, with up to maxConnections in parallel. It writes each response
// immediately.
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
	defer context.AfterFunc(g.lifetime, cancel)()
	var all []func() error
	for _, q := range g.queries {
		all = append(all, func() error { return g.queryOwn(ctx, q, pods) })
	}
	if g.cfg.Selection != nil {
		for some := range slices.Chunk(pods, podsPerQuery) {
			all = append(all, func() error { return g.queryPods(ctx, some) })
		}
	}
	errs := make([]error, len(all))
	var running errgroup.Group
	running.SetLimit(maxConnections)
	for i, query := range all {
		running.Go(func() error { errs[i] = query(); return nil }) // an error does not end the round
	}
	_ = running.Wait()
	if g.record(ctx, errs) {
		g.cfg.OnRead()
	}
}

// record records the result of a round. It returns false if the round was cancelled, or had
// no queries.
func (g *Group) record(ctx context.Context, errs []error) bool {
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
		g.serverStatus.Tried, g.serverStatus.Err = g.last, own[0]
		if slices.Contains(own, nil) {
			g.serverStatus.Answered, g.serverStatus.Err = g.last, nil
		}
	}
	return true
}

// cancelled reports whether the results of the round must be discarded: the group was
// closed, or the poller stops.
func (g *Group) cancelled(ctx context.Context) bool {
	return ctx.Err() != nil || g.lifetime.Err() != nil
}

// reschedule queues the next round.
func (g *Group) reschedule(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.lifetime.Err() == nil && g.hasQueries() {
		g.poller.queue.By(g, now.Add(schedule.BackOff(g.cfg.Interval, g.failures)))
	}
}
