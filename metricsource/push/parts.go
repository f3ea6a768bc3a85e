package push

import (
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// An instance may tell its series one by one, or some at a time, and not say for how long
// they stand: OpenTelemetry's exporters do. Each of its series then has a time of its own.
const (
	// partStands: a series stands for so many halves of its pace. At first that is taken
	// for firstPace, for SDKs export every minute by default.
	partStands = 5
	firstPace  = time.Minute
	minGap     = time.Second
	maxGap     = MaxTimeToLive * 2 / partStands
)

// pace is the longest gap between two words of a series, of late: in a time as long as
// that. An instance may export by more than one way, and so several times soon after each
// other, and then not for long.
type pace struct {
	longest, since time.Duration // since: the longest gap after that one
	at             time.Time     // when it was that
}

// with is the pace after another gap, that now has ended.
func (p pace) with(gap time.Duration, now time.Time) pace {
	p.since = max(p.since, gap)
	if p.since >= p.longest || now.Sub(p.at) >= p.longest {
		return pace{longest: p.since, at: now}
	}
	return p
}

// word is what a series was said to be.
type word struct {
	moment uint64    // by the clock of who said it, in nanoseconds: which of two words is the later one
	at     time.Time // when it came, here or to another replica
	stands time.Duration
	pace   pace // of its series
}

// end is when it stands no more.
func (w word) end() time.Time { return w.at.Add(w.stands) }

// follows reports whether a word counts after another of its series: that of a later
// moment, or said again of the same one, for a Collector's clock may stand still. A moment
// long before is that of a clock which was set back.
func (w word) follows(last word) bool {
	switch {
	case w.moment > last.moment:
		return true
	case w.moment == last.moment:
		return !w.at.Before(last.at)
	}
	return w.at.After(last.at) && last.moment-w.moment > uint64(rememberFor)
}

// gap is the time since the word before, by the larger of what both clocks say: what an
// exporter could not send for a while comes at once.
func (w word) gap(last word) time.Duration {
	apart := max(w.at.Sub(last.at), minGap)
	if w.moment > last.moment {
		apart = max(apart, time.Duration(min(w.moment-last.moment, uint64(maxGap))))
	}
	return min(apart, maxGap)
}

// droppedError says of how many series nothing is kept.
type droppedError struct{ series int }

func (e *droppedError) Error() string {
	return fmt.Sprintf("%s: %d more series of this instance; at most %d", errExhausted, e.series, MaxSamples)
}

func (e *droppedError) Unwrap() error { return errExhausted }

// joined adds a part to what else the instance has said that still stands. A series of the
// part stands for a time of its own, where another replica tells one, and else by its pace.
// Some series may be dropped: then there is an error beside the report.
func joined(before, p report, now time.Time) (report, error) {
	words := p.samples
	p.samples = slices.DeleteFunc(slices.Clone(before.samples), func(s sample) bool { return !s.end().After(now) })
	index := make(map[uint64]int, len(p.samples)+len(words))
	for i, s := range p.samples {
		index[s.labels.Hash()] = i
	}
	taken, dropped := 0, 0
	for _, s := range words {
		i, known := index[s.labels.Hash()]
		switch {
		case known && (!labels.Equal(s.labels, p.samples[i].labels) || !s.follows(p.samples[i].word)):
			continue
		case known:
			last := p.samples[i].word
			s.pace = last.pace
			if gap := s.gap(last); s.moment > last.moment || gap > last.pace.longest { // one that is repeated shortens nothing
				s.pace = last.pace.with(gap, s.at)
			}
		case len(p.samples) == MaxSamples:
			dropped++
			continue
		default:
			s.pace = pace{longest: firstPace, at: s.at}
			i = len(p.samples)
			index[s.labels.Hash()] = i
			p.samples = append(p.samples, s)
		}
		if s.stands == 0 {
			s.stands = partStands * s.pace.longest / 2
		}
		p.samples[i] = s
		taken++
	}
	p.sequence, p.parts = max(p.sequence, before.sequence), true
	switch {
	case dropped > 0:
		return p, &droppedError{dropped}
	case taken == 0:
		return p, errStale
	}
	return p, nil
}
