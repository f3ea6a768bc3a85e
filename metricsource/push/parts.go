package push

import (
	"maps"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	demandv1 "github.com/inference-scaler/inference-scaler/proto/demand/v1"
)

// An instance may tell its series one by one, or some at a time, and not say for how long
// they stand: OpenTelemetry's exporters do.
const (
	// A part stands for partStands halves of the interval that was observed; the first
	// one for that of an SDK that exports every minute, as by default.
	partStands      = 5
	firstPartStands = partStands * time.Minute / 2
	// minPartGap is the time below which two parts are of one export, though their
	// moments differ: what is measured then is no interval.
	minPartGap = time.Second
	// latePart is by how much the moment of a part may be before that of another which
	// came first: of two of one export, or by two ways.
	latePart = time.Minute
	// sameTime is by how much what two replicas know of one word may differ in time.
	sameTime = time.Second
)

// joined adds to a part what the reporter has said in others, for as long as that
// stands, and lets each series stand for longer than it takes to be said again, by the
// time that this took. The reporter is nil for its first. Of a part that comes late,
// nothing counts that has been said since, or would have ended.
func joined(r *reporter, p report, now time.Time) (*demandv1.ReportRequest, report, error) {
	before, late := r.said(), time.Duration(0)
	if p.sequence < before.sequence {
		if late = time.Duration(min(before.sequence-p.sequence, uint64(MaxTimeToLive))); r.last == nil || late > latePart {
			return nil, report{}, errStale
		}
	}
	known, fresh := before.byLabels(), p.samples
	p.samples = make([]sample, 0, len(fresh)+len(before.samples))
	for _, s := range fresh {
		last, repeated := known.take(s.labels, late > 0)
		switch {
		case repeated && late > 0:
			continue
		case repeated:
			s.at = now
			s.pace(last, now)
		default:
			s.at, s.stands = now.Add(-late), before.usual(late > 0)
		}
		if s.end().After(now) {
			p.samples = append(p.samples, s)
		}
	}
	if late > 0 && len(p.samples) == 0 {
		return nil, report{}, errStale
	}
	p.keep(known, now)
	p.sequence = max(p.sequence, before.sequence)
	req := p.request(now)
	return req, p, nil
}

// merged adds to what is known of a reporter what another replica knows of it: of each
// series what was said last.
func merged(r *reporter, p report, now time.Time) (*demandv1.ReportRequest, report, error) {
	before := r.said()
	if p.sequence < before.sequence && r.last == nil {
		return nil, report{}, errStale
	}
	known, told := before.byLabels(), p.samples
	p.samples = make([]sample, 0, len(told)+len(before.samples))
	for _, s := range told {
		s.at = now.Add(-s.age)
		last, found := known.take(s.labels, false)
		if since := s.at.Sub(last.at); found && since <= sameTime {
			if since >= -sameTime && p.sequence >= before.sequence {
				last.value = s.value
			}
			s = last
		}
		if s.end().After(now) {
			p.samples = append(p.samples, s)
		}
	}
	p.keep(known, now)
	p.sequence = max(p.sequence, before.sequence)
	req := p.request(now)
	return req, p, nil
}

// said is the reporter's last report; an empty one of nil.
func (r *reporter) said() report {
	if r == nil {
		return report{}
	}
	return r.report
}

// samplesByLabels finds what was said before, by the hash of its labels.
type samplesByLabels map[uint64]sample

func (p *report) byLabels() samplesByLabels {
	all := make(samplesByLabels, len(p.samples))
	for _, s := range p.samples {
		all[s.labels.Hash()] = s
	}
	return all
}

// take returns what was said of a series, and forgets it unless it is to be left.
func (k samplesByLabels) take(ls labels.Labels, leave bool) (sample, bool) {
	hash := ls.Hash()
	s, ok := k[hash]
	if !ok || !labels.Equal(s.labels, ls) {
		return sample{}, false
	}
	if !leave {
		delete(k, hash)
	}
	return s, true
}

// keep adds what else stands, as far as there is room.
func (p *report) keep(known samplesByLabels, now time.Time) {
	for _, hash := range slices.Sorted(maps.Keys(known)) {
		if s := known[hash]; s.end().After(now) && len(p.samples) < MaxSamples {
			p.samples = append(p.samples, s)
		}
	}
}

// usual is for how long a series stands that was not said before: as if all were said every
// minute, but for one that comes late, which has no more time than the others.
func (p *report) usual(late bool) time.Duration {
	most := time.Duration(0)
	for _, s := range p.samples {
		if s.paced {
			most = max(most, s.stands)
		}
	}
	if !late || most == 0 {
		return firstPartStands
	}
	return most
}

// pace lets a sample stand by the time since the last one of its series.
func (s *sample) pace(last sample, now time.Time) {
	s.stands, s.paced = last.stands, last.paced
	gap := now.Sub(last.at)
	if gap < minPartGap {
		return
	}
	s.stands = min(partStands*gap/2, MaxTimeToLive)
	if last.paced {
		s.stands = max(s.stands, last.stands/2) // one that comes early is no new pace
	}
	s.paced = true
}
