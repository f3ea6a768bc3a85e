package push

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/inference-scaler/inference-scaler/metricsource/schedule"
	demandv1 "github.com/inference-scaler/inference-scaler/proto/demand/v1"
)

const (
	// maxReporters bounds what is remembered in all, and maxPerWorkload of one workload.
	maxReporters   = 20_000
	maxPerWorkload = 2_000
	// What one namespace may fill: no tenant keeps the others out.
	maxPerNamespace = 4_000
	maxBytes        = 16 << 20 // of its reports that stand, on the wire
	// rememberFor is for how long the sequence of a reporter that is gone is kept:
	// what it has said must not come back.
	rememberFor = MaxTimeToLive
)

// Store holds the last report of every reporter. Its methods are safe for concurrent use.
type Store struct {
	expiries *schedule.Queue[*reporter]
	reports  *prometheus.CounterVec

	mu        sync.Mutex
	reporters map[workload]map[string]*reporter
	count     int
	usage     map[string]usage // by namespace
	groups    map[workload]map[*Group]struct{}
	relays    map[*relay]struct{}
}

// usage is what a namespace fills of the store.
type usage struct{ reporters, bytes int }

// reporter is one instance that reports, or has of late. The store's lock guards it.
type reporter struct {
	workload
	instance string
	sequence uint64
	last     *demandv1.ReportRequest // as it came; nil once it stands no more
	report   report
	at       time.Time // of the last report
	expires  time.Time
	bytes    int // of last
}

// NewStore returns an empty store. The registerer may be nil.
func NewStore(reg prometheus.Registerer) *Store {
	s := &Store{
		expiries:  schedule.New[*reporter](),
		reporters: map[workload]map[string]*reporter{},
		usage:     map[string]usage{},
		groups:    map[workload]map[*Group]struct{}{},
		relays:    map[*relay]struct{}{},
	}
	f := promauto.With(reg)
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

// Run ends reports whose time to live is over, until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	s.expiries.Run(ctx, func(r *reporter) { s.expire(r, time.Now()) })
	return nil
}

var outcomeNames = map[demandv1.Outcome]string{
	demandv1.Outcome_OUTCOME_TAKEN: "taken", demandv1.Outcome_OUTCOME_STALE: "stale", demandv1.Outcome_OUTCOME_INVALID: "invalid",
	demandv1.Outcome_OUTCOME_FORBIDDEN: "forbidden", demandv1.Outcome_OUTCOME_EXHAUSTED: "exhausted",
}

// way is how a report came.
type way int

const (
	told    way = iota // by its reporter: a series that it leaves out has ended
	relayed            // by another replica
	part               // by its reporter: some of its series, without a time to live
)

// take takes every report, from a caller who may report for these namespaces.
func (s *Store) take(req *demandv1.ReportRequest, namespaces []string, by way) error {
	err := s.put(req, namespaces, by)
	s.reports.WithLabelValues(outcomeNames[outcomeOf(err)]).Inc()
	return err
}

func (s *Store) put(req *demandv1.ReportRequest, namespaces []string, by way) error {
	if !covers(namespaces, req.GetNamespace()) {
		return fmt.Errorf("%w: namespace %q: this caller may not report for it", errForbidden, clip(req.GetNamespace()))
	}
	parsed, err := parse(req, by, time.Now())
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now() // what is told of another moment is older
	r := s.reporters[parsed.workload][parsed.instance]
	switch {
	case by == part || by == relayed && parsed.parts:
		return s.join(r, parsed, now, by)
	case r != nil && by == relayed && parsed.sequence == r.sequence:
		return nil // known
	case r != nil && parsed.sequence <= r.sequence:
		return errStale
	}
	for i := range parsed.samples {
		parsed.samples[i].word = word{moment: parsed.sequence, at: now, stands: parsed.ttl}
	}
	tell := req
	if by == relayed {
		tell = nil
	}
	return s.state(r, req, parsed, now, tell)
}

// join takes a part, as far as there is room for its series.
func (s *Store) join(r *reporter, p report, now time.Time, by way) error {
	var before report
	if r != nil {
		before = r.report
		// Nothing that it said stands: what was said before that does not come back, but for
		// what stands with another replica, unless it was taken back.
		if r.last == nil && (by == part || !before.parts) && p.sequence < r.sequence && r.sequence-p.sequence <= uint64(rememberFor) {
			return errStale
		}
	}
	if by == part {
		for i := range p.samples {
			p.samples[i].at = now
		}
	}
	all, err := joined(before, p, now)
	if errors.Is(err, errStale) {
		return err
	}
	var tell *demandv1.ReportRequest
	if words := all.saidAt(now); by == part && len(words.samples) > 0 {
		tell = words.request(now) // what else stands was told before, or came from there
	}
	if none := s.state(r, all.request(now), all, all.said(), tell); none != nil {
		return none
	}
	return err
}

// state makes a report what its reporter, nil for a new one, has said last, and when. The
// other replicas are told of it, unless there is nothing to tell.
func (s *Store) state(r *reporter, req *demandv1.ReportRequest, p report, at time.Time, tell *demandv1.ReportRequest) error {
	r, err := s.room(r, p, proto.Size(req))
	if err != nil {
		return err
	}
	changed := r.last == nil || !same(r.report.samples, p.samples)
	r.sequence, r.report, r.last, r.at = p.sequence, p, req, at
	if !p.parts && p.ttl == 0 {
		s.forget(r, at)
	} else {
		s.show(r, changed)
	}
	if tell != nil {
		for relay := range s.relays {
			relay.send(tell)
		}
	}
	return nil
}

// room returns the reporter of a report, a new one where there is none, with what the
// report fills counted; or an error where there is no room for it.
func (s *Store) room(r *reporter, p report, size int) (*reporter, error) {
	used, before := s.usage[p.namespace], 0
	if r != nil {
		before = r.bytes
	}
	switch {
	case size > MaxMessage:
		return nil, fmt.Errorf("%w: a report of %d bytes; at most %d", errExhausted, size, MaxMessage)
	case used.bytes-before+size > maxBytes:
		return nil, fmt.Errorf("%w: the reports for namespace %s fill %d bytes; at most %d", errExhausted, p.namespace, used.bytes, maxBytes)
	case r != nil:
	case len(s.reporters[p.workload]) >= maxPerWorkload || used.reporters >= maxPerNamespace || s.count >= maxReporters:
		return nil, fmt.Errorf("%w: at most %d reporters of a workload, %d of a namespace, and %d in all", errExhausted, maxPerWorkload, maxPerNamespace, maxReporters)
	default:
		r = &reporter{workload: p.workload, instance: p.instance}
		if s.reporters[p.workload] == nil {
			s.reporters[p.workload] = map[string]*reporter{}
		}
		s.reporters[p.workload][p.instance] = r
		s.count++
		used.reporters++
	}
	r.bytes = size
	used.bytes += size - before
	s.usage[p.namespace] = used
	return r, nil
}

func same(a, b []sample) bool {
	return slices.EqualFunc(a, b, func(x, y sample) bool { return x.value == y.value && x.labels.Hash() == y.labels.Hash() })
}

// expire ends a report, and later what is remembered of it.
func (s *Store) expire(r *reporter, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case now.Before(r.expires): // it has reported again meanwhile
	case r.last != nil && !s.shorten(r, now):
		s.forget(r, now)
	case r.last != nil:
	default:
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
}

// shorten leaves out the series of a report that stand no more, and reports whether
// anything is left. It fills no more than is counted of it.
func (s *Store) shorten(r *reporter, now time.Time) bool {
	r.report.samples = slices.DeleteFunc(r.report.samples, func(s sample) bool { return !s.end().After(now) })
	if len(r.report.samples) == 0 {
		return false
	}
	s.show(r, true)
	return true
}

// show lets what a reporter has said stand, here and in the windows that are open for it.
func (s *Store) show(r *reporter, changed bool) {
	r.expires = r.report.ends(r.at)
	s.expiries.At(r, r.expires)
	for g := range s.groups[r.workload] {
		g.take(r, r.at, changed)
	}
}

// forget takes back what a reporter has said; its sequence is remembered.
func (s *Store) forget(r *reporter, now time.Time) {
	used := s.usage[r.namespace]
	used.bytes -= r.bytes
	s.usage[r.namespace] = used
	r.last, r.report.samples, r.bytes = nil, nil, 0
	r.expires = now.Add(rememberFor)
	s.expiries.At(r, r.expires)
	for g := range s.groups[r.workload] {
		g.drop(r.instance)
	}
}

// standing returns the reports that stand, with what is left of their time to live, and
// what of late has ended or was taken back, which a replica may not have heard. (What was
// said in parts ends there by itself, and what stands there may have been said there.)
func (s *Store) standing() []*demandv1.ReportRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	var all []*demandv1.ReportRequest
	for _, known := range s.reporters {
		for _, r := range known {
			switch {
			case r.last == nil && r.report.parts:
				continue
			case r.last == nil:
				all = append(all, &demandv1.ReportRequest{Namespace: r.namespace, Workload: r.name, Instance: r.instance, Sequence: r.sequence, TimeToLive: durationpb.New(0)})
			case r.report.parts:
				if parts := r.report.request(now); len(parts.GetSamples()) > 0 {
					all = append(all, parts)
				}
			default:
				left := proto.CloneOf(r.last)
				left.TimeToLive = durationpb.New(max(MinTimeToLive, r.expires.Sub(now)))
				all = append(all, left)
			}
		}
	}
	return all
}
