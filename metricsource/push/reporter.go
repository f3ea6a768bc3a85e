package push

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"google.golang.org/protobuf/types/known/durationpb"

	demandv1 "github.com/inference-scaler/inference-scaler/proto/demand/v1"
)

// reporter is an instance that reports, and what is remembered of it. The store's lock
// guards it.
type reporter struct {
	workload
	instance string
	state    state
	sequence uint64 // of the newest report
	complete uint64 // the sequence of the newest complete report, a withdrawal among them
	partial  bool
	series   []series
	heard    time.Time            // when the newest series was received, here or by a peer
	due      time.Time            // when the next series expires, or the reporter is forgotten
	ended    map[uint64]lastPoint // OTLP series that expired, by the hash of their labels
	bytes    int                  // counted towards the quota
}

type state int

const (
	expired state = iota
	current
	withdrawn
)

// lastPoint is the last point of a series that expired.
type lastPoint struct {
	moment  uint64
	expired time.Time
}

// replace makes a report the reporter's newest one. Its result is whether values changed.
func (r *reporter) replace(p report, now time.Time, timeToLive time.Duration) (changed bool) {
	changed = r.state != current || !slices.EqualFunc(r.series, p.series, func(x, y series) bool {
		return x.value == y.value && x.labels.Hash() == y.labels.Hash()
	})
	r.state, r.sequence, r.partial, r.series = current, max(r.sequence, p.sequence), p.partial, p.series
	r.heard, r.due = now, p.expires
	if !p.partial {
		r.complete, r.ended = p.sequence, nil
	} else {
		newest := slices.MaxFunc(r.series, func(a, b series) int { return a.expires.Compare(b.expires) })
		r.heard = newest.expires.Add(-timeToLive)
	}
	for _, s := range r.series {
		if s.expires.Before(r.due) {
			r.due = s.expires
		}
		delete(r.ended, s.labels.Hash())
	}
	if p.withdraw {
		r.state = withdrawn
	}
	return changed
}

// merge returns the reporter's series with those of a partial report. It fails if every
// point of the report is superseded, or if there are too many series.
func (r *reporter) merge(p report, now time.Time) ([]series, error) {
	all, index := r.unexpired(now), make(map[uint64]int, len(r.series)+len(p.series))
	for i, s := range all {
		index[s.labels.Hash()] = i
	}
	superseded := 0
	for _, s := range p.series {
		hash := s.labels.Hash()
		i, known := index[hash]
		last, ended := r.ended[hash]
		switch {
		case s.moment <= r.complete && r.complete-s.moment <= uint64(rememberFor), // withdrawn, or replaced
			known && (!labels.Equal(s.labels, all[i].labels) || !s.supersedes(all[i].moment, all[i].expires)),
			ended && !s.supersedes(last.moment, last.expired),
			// A peer may hold a series for a moment longer than this replica.
			ended && !s.local && s.moment == last.moment:
			superseded++
		case known:
			// A peer sends a point again when another series of the instance has a new one.
			s.returned = all[i].returned && !s.local && s.moment == all[i].moment
			all[i] = s
		default:
			s.returned = ended
			index[hash] = len(all)
			all = append(all, s)
		}
	}
	switch {
	case superseded == len(p.series):
		return nil, errSuperseded
	case len(all) > MaxSamples:
		return nil, fmt.Errorf("%w: %d series of this instance; at most %d", errExhausted, len(all), MaxSamples)
	}
	return all, nil
}

// unexpired returns the series that have not expired, and remembers the last points of those
// that have.
func (r *reporter) unexpired(now time.Time) []series {
	maps.DeleteFunc(r.ended, func(_ uint64, p lastPoint) bool { return now.Sub(p.expired) > rememberFor })
	all := make([]series, 0, len(r.series))
	for _, s := range r.series {
		switch {
		case s.expires.After(now):
			all = append(all, s)
		case s.moment != 0 && len(r.ended) < MaxSamples:
			if r.ended == nil {
				r.ended = map[uint64]lastPoint{}
			}
			r.ended[s.labels.Hash()] = lastPoint{s.moment, s.expires}
		}
	}
	return all
}

// request returns what a peer must know of the reporter; nil for nothing. Of a partial
// report that is the series which this replica received itself, or all of them.
func (r *reporter) request(now time.Time, all bool) *demandv1.ReportRequest {
	req := &demandv1.ReportRequest{Namespace: r.namespace, Workload: r.name, Instance: r.instance, Sequence: r.sequence}
	switch {
	case r.state == withdrawn:
		req.TimeToLive = durationpb.New(0)
		return req
	case r.state == expired:
		return nil // there, too
	case !r.partial:
		req.TimeToLive = durationpb.New(max(MinTimeToLive, r.due.Sub(now)))
	}
	for _, s := range r.series {
		if !r.partial || s.expires.After(now) && (all || s.local) {
			req.Samples = append(req.Samples, s.proto(now))
		}
	}
	if r.partial && len(req.GetSamples()) == 0 {
		return nil
	}
	return req
}
