package push

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/inference-scaler/inference-scaler/metricsource/schedule"
	demandv1 "github.com/inference-scaler/inference-scaler/proto/demand/v1"
)

const (
	// Quotas of reporters: in all, of one workload and of one namespace. No namespace uses
	// up what the others need.
	maxReporters    = 20_000
	maxPerWorkload  = 2_000
	maxPerNamespace = 4_000
	// maxBytes is the quota of the reports of one namespace.
	maxBytes = 16 << 20
	// rememberFor is how long the sequence of an instance is kept after its report ended, and
	// the moment of a series after it expired. An older report must not revive either.
	rememberFor = MaxTimeToLive
)

// Options of a Store.
type Options struct {
	// TimeToLive of a series that is received as OTLP; 0 for DefaultTimeToLive.
	TimeToLive time.Duration
	Registerer prometheus.Registerer // may be nil
}

// Store holds the last report of every reporter. Its methods are safe for concurrent use.
type Store struct {
	timeToLive time.Duration
	expiries   *schedule.Queue[*reporter]
	reports    *prometheus.CounterVec

	mu        sync.Mutex
	reporters map[workload]map[string]*reporter // by instance
	count     int
	usage     map[string]usage // by namespace
	groups    map[workload]map[*Group]struct{}
	peers     map[*replica]struct{}
}

// usage is what a namespace uses of its quotas.
type usage struct{ reporters, bytes int }

// NewStore returns an empty store.
func NewStore(opts Options) *Store {
	if opts.TimeToLive == 0 {
		opts.TimeToLive = DefaultTimeToLive
	}
	s := &Store{
		timeToLive: opts.TimeToLive,
		expiries:   schedule.New[*reporter](),
		reporters:  map[workload]map[string]*reporter{},
		usage:      map[string]usage{},
		groups:     map[workload]map[*Group]struct{}{},
		peers:      map[*replica]struct{}{},
	}
	f := promauto.With(opts.Registerer)
	s.reports = f.NewCounterVec(prometheus.CounterOpts{
		Name: "inference_scaler_reports_total",
		Help: "Reports of demand by outcome.",
	}, []string{"outcome"})
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "inference_scaler_reporters",
		Help: "Reporters that are remembered, expired ones among them.",
	}, func() float64 {
		s.mu.Lock()
		defer s.mu.Unlock()
		return float64(s.count)
	})
	return s
}

// Run ends reports when they expire, until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	s.expiries.Run(ctx, func(r *reporter) { s.expire(r, time.Now()) })
	return nil
}

var outcomeNames = map[demandv1.Outcome]string{
	demandv1.Outcome_OUTCOME_TAKEN: "taken", demandv1.Outcome_OUTCOME_STALE: "stale", demandv1.Outcome_OUTCOME_INVALID: "invalid",
	demandv1.Outcome_OUTCOME_FORBIDDEN: "forbidden", demandv1.Outcome_OUTCOME_EXHAUSTED: "exhausted",
}

// accept stores a report of a caller who may report for these namespaces, or returns why
// it is refused. Every report passes here.
func (s *Store) accept(req *demandv1.ReportRequest, namespaces []string, from origin) error {
	err := s.put(req, namespaces, from)
	s.reports.WithLabelValues(outcomeNames[outcomeOf(err)]).Inc()
	return err
}

func (s *Store) put(req *demandv1.ReportRequest, namespaces []string, from origin) error {
	if !covers(namespaces, req.GetNamespace()) {
		return fmt.Errorf("%w: namespace %q: this caller may not report for it", errForbidden, clip(req.GetNamespace()))
	}
	now := time.Now()
	p, err := parse(req, from, s.timeToLive, now)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.reporters[p.workload][p.instance]
	if r == nil {
		r = &reporter{workload: p.workload, instance: p.instance}
	}
	switch {
	case p.partial:
		if p.series, err = r.merge(p, now); err != nil {
			return err
		}
	case p.sequence <= r.sequence:
		return errSuperseded
	case p.withdraw:
		p.series = nil
	}
	if err := s.reserve(r, sizeOf(p.series)); err != nil {
		return err
	}
	changed := r.replace(p, now, s.timeToLive)
	if r.state == current {
		s.show(r, changed)
	} else {
		s.hide(r, now)
	}
	// A peer forwards its reports itself: they would come back for ever.
	if from != fromPeer {
		for other := range s.peers {
			other.changed(r, false)
		}
	}
	return nil
}

// reserve counts a report of this size towards the quotas, and adds a reporter that is new.
func (s *Store) reserve(r *reporter, size int) error {
	used, added := s.usage[r.namespace], s.reporters[r.workload][r.instance] == nil
	switch {
	case size > MaxMessage:
		return fmt.Errorf("%w: a report of %d bytes; at most %d", errExhausted, size, MaxMessage)
	case used.bytes-r.bytes+size > maxBytes:
		return fmt.Errorf("%w: the reports for namespace %s have %d bytes; at most %d", errExhausted, r.namespace, used.bytes, maxBytes)
	case added && (len(s.reporters[r.workload]) >= maxPerWorkload || used.reporters >= maxPerNamespace || s.count >= maxReporters):
		return fmt.Errorf("%w: at most %d reporters of a workload, %d of a namespace, and %d in all", errExhausted, maxPerWorkload, maxPerNamespace, maxReporters)
	}
	if added {
		if s.reporters[r.workload] == nil {
			s.reporters[r.workload] = map[string]*reporter{}
		}
		s.reporters[r.workload][r.instance] = r
		s.count++
		used.reporters++
	}
	used.bytes += size - r.bytes
	r.bytes = size
	s.usage[r.namespace] = used
	return nil
}

// show shows a report in the windows that are open for it, until it or the first of its
// series expires.
func (s *Store) show(r *reporter, changed bool) {
	s.expiries.At(r, r.due)
	for g := range s.groups[r.workload] {
		g.show(r, changed)
	}
}

// hide removes a report from the windows. Its sequence is remembered.
func (s *Store) hide(r *reporter, now time.Time) {
	r.due = now.Add(rememberFor)
	s.expiries.At(r, r.due)
	for g := range s.groups[r.workload] {
		g.hide(r.instance)
	}
}

// expire ends the series that have expired. With the last of them the report ends, and later
// the reporter is forgotten.
func (s *Store) expire(r *reporter, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Before(r.due) {
		return // reported again meanwhile
	}
	if r.state != current {
		s.forget(r)
		return
	}
	r.series = r.unexpired(now)
	used, size := s.usage[r.namespace], sizeOf(r.series)
	used.bytes += size - r.bytes
	s.usage[r.namespace], r.bytes = used, size
	if len(r.series) > 0 {
		r.due = slices.MinFunc(r.series, func(a, b series) int { return a.expires.Compare(b.expires) }).expires
		s.show(r, true)
		return
	}
	r.state = expired
	s.hide(r, now)
}

func (s *Store) forget(r *reporter) {
	delete(s.reporters[r.workload], r.instance)
	if len(s.reporters[r.workload]) == 0 {
		delete(s.reporters, r.workload)
	}
	s.count--
	used := s.usage[r.namespace]
	if used.reporters--; used.reporters > 0 {
		s.usage[r.namespace] = used
	} else {
		delete(s.usage, r.namespace)
	}
}
