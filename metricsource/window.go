package metricsource

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
)

const (
	// MaxSeries limits the series of one window.
	MaxSeries = 100_000
	// maxPoints limits the samples of one series to one per second over MaxLookback. A
	// target with a shorter interval and a long lookback loses intermediate samples.
	maxPoints = int64(MaxLookback / time.Second)
	// maxSamples limits the samples of one window. A sample takes 16 bytes.
	maxSamples = 4_000_000
	// maxLabels limits the labels of all series of one window, in bytes.
	maxLabels = 16 << 20
	// clockStep is how far before the newest sample a reading must be dated to show that
	// the system clock was set back. Readings that overlap differ by less.
	clockStep = 30 * time.Second
)

// ErrTooManySeries means that a reading exceeds the limits of its window.
var ErrTooManySeries = errors.New("too many series")

var errLabels = fmt.Errorf("%w: their labels are larger than %d MiB", ErrTooManySeries, maxLabels>>20)

// Window holds the recent samples of one workload, by target. The Prometheus engine
// reads it as a storage.Queryable. It is safe for concurrent use.
//
// The newest sample of a series remains until its target is removed or no longer exports
// the series. A target that does not respond keeps its last known values.
type Window struct {
	retention int64 // ms; the newest sample of each series is kept longer
	minGap    int64 // ms; a sample closer than this to its predecessor is replaced by the next
	maxSeries int

	mu      sync.RWMutex
	byName  map[string][]*Series
	count   int
	size    int // of the labels of all series, in bytes
	updated time.Time
	version uint64
	newest  int64 // ms; the time of the newest sample
}

// NewWindow returns a window that keeps samples for the lookback, at most MaxLookback.
func NewWindow(lookback time.Duration) *Window {
	retention := min(lookback, MaxLookback).Milliseconds()
	points := 1 + min(retention/100, maxPoints) // 100 ms: the shortest interval
	return &Window{
		retention: retention,
		minGap:    retention / maxPoints,
		maxSeries: min(MaxSeries, int(maxSamples/points)),
		byName:    map[string][]*Series{},
	}
}

// Target is one source of samples: a pod or an address.
type Target struct {
	window       *Window
	common       labels.Labels        // labels of every series of the target
	series       map[uint64][]*Series // by the hash of their labels
	count        int
	size         int
	up           *Series
	round        uint64 // counts readings
	lastComplete uint64 // the round of the last complete reading
	removed      bool   // later readings are discarded
}

// Series is one series of a Target with its recent samples.
type Series struct {
	labels       labels.Labels
	size         int      // of the labels, in bytes
	samples      []sample // oldest first; at least one while visible
	lastRound    uint64   // the target's round with the newest sample
	lastComplete uint64   // the last complete round that contained the series
	visible      bool     // to queries: the series is in byName
	index        int      // in its list in byName
}

type sample struct {
	t int64 // ms since the epoch
	v float64
}

// Point is the value of a series in one reading of its target.
type Point struct {
	Series *Series
	Value  float64
}

// Updated returns the time of the newest sample of all targets, or zero before the first.
func (w *Window) Updated() time.Time {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.updated
}

// Version returns a number that changes with the set of series and with their newest
// values. A new sample with an unchanged value does not change it. whole reports whether
// a query at the given time reads the newest value of every series.
func (w *Window) Version(at time.Time) (version uint64, whole bool) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.version, w.newest <= at.UnixMilli()
}

// Target adds a target. All its series get the common labels (pod, job, instance,
// namespace). The caller must remove it with Remove.
func (w *Window) Target(common labels.Labels) *Target {
	t := &Target{window: w, common: common, series: map[uint64][]*Series{}}
	t.up = &Series{labels: labels.NewBuilder(common).Set(model.MetricNameLabel, "up").Labels()}
	return t
}

// Series returns a series for the points of later readings. The window contains the
// series only once it has a sample. As in Prometheus, a label that conflicts with a
// common label of the target is renamed to exported_….
func (t *Target) Series(ls labels.Labels) *Series {
	b := labels.NewBuilder(ls)
	t.common.Range(func(l labels.Label) {
		if own := ls.Get(l.Name); own != "" {
			b.Set("exported_"+l.Name, own)
		}
		b.Set(l.Name, l.Value)
	})
	all := b.Labels()
	return &Series{labels: all, size: int(all.ByteSize())}
}

// Commit writes a complete reading of the target. A series that is not in it has ended.
// The last of several points of one series applies.
func (t *Target) Commit(at time.Time, points []Point) error { return t.write(at, points, true) }

// Merge writes a reading without all required series. The series of the last complete
// reading keep their last samples if this one lacks them.
func (t *Target) Merge(at time.Time, points []Point) error { return t.write(at, points, false) }

func (t *Target) write(at time.Time, points []Point, complete bool) error {
	w, now := t.window, at.UnixMilli()
	w.mu.Lock()
	defer w.mu.Unlock()
	if t.removed {
		return nil
	}
	w.rewind(at)
	if w.count-t.count+len(points) > w.maxSeries {
		return ErrTooManySeries
	}
	size := w.size - t.size
	for _, p := range points {
		size += p.Series.size
	}
	if size > maxLabels {
		return errLabels
	}
	if at.After(w.updated) {
		w.updated = at
	}
	t.round++
	if complete {
		t.lastComplete = t.round
	}
	w.append(t.up, now, 1)
	for _, p := range points {
		s := p.Series
		if !s.visible {
			s = t.add(s) // or the visible series with the same labels
		}
		s.lastRound = t.round
		if complete {
			s.lastComplete = t.round
		}
		w.append(s, now, p.Value)
	}
	// Ended series count against the limits, and are the first to be dropped.
	overLimit := w.count > w.maxSeries || w.size > maxLabels
	for hash, list := range t.series {
		list = slices.DeleteFunc(list, func(s *Series) bool {
			ended := s.lastRound != t.round && (t.lastComplete == 0 || s.lastComplete != t.lastComplete)
			return ended && (overLimit && t.drop(s) || t.end(s, now))
		})
		if len(list) == 0 {
			delete(t.series, hash)
		} else {
			t.series[hash] = list
		}
	}
	return nil
}

// add makes a series visible and returns it. If the target already has a series with the
// same labels, add returns that one.
func (t *Target) add(s *Series) *Series {
	hash := s.labels.Hash()
	for _, existing := range t.series[hash] {
		if labels.Equal(existing.labels, s.labels) {
			return existing
		}
	}
	t.series[hash] = append(t.series[hash], s)
	t.window.show(s)
	t.count++
	t.window.count++
	t.size += s.size
	t.window.size += s.size
	return s
}

// Fail records a failed reading: up becomes 0, and all other series remain unchanged.
func (t *Target) Fail(at time.Time) {
	t.window.mu.Lock()
	defer t.window.mu.Unlock()
	if !t.removed {
		t.window.rewind(at)
		t.window.append(t.up, at.UnixMilli(), 0)
	}
}

// rewind shifts all samples back if the given time is far before the newest sample. The
// system clock has then been set back, and queries at the new time would not see the
// samples.
func (w *Window) rewind(at time.Time) {
	by := w.newest - at.UnixMilli()
	if by <= clockStep.Milliseconds() {
		return
	}
	for _, list := range w.byName {
		for _, s := range list {
			for i := range s.samples {
				s.samples[i].t -= by
			}
		}
	}
	w.newest = at.UnixMilli()
	if !w.updated.IsZero() {
		w.updated = w.updated.Add(-time.Duration(by) * time.Millisecond)
	}
}

// Remove removes the target and all its series from the window.
func (t *Target) Remove() {
	t.window.mu.Lock()
	defer t.window.mu.Unlock()
	t.window.hide(t.up)
	for _, list := range t.series {
		for _, s := range list {
			t.window.hide(s)
		}
	}
	t.window.count -= t.count
	t.window.size -= t.size
	t.count, t.size = 0, 0
	clear(t.series)
	t.removed = true
}

// append adds a sample to a series.
func (w *Window) append(s *Series, now int64, v float64) {
	w.show(s)
	w.newest = max(w.newest, now)
	if n := len(s.samples); n == 0 || math.Float64bits(s.samples[n-1].v) != math.Float64bits(v) {
		w.version++
	}
	// The clock went back a little, so samples from its future are invalid.
	for len(s.samples) > 0 && s.samples[len(s.samples)-1].t >= now {
		s.samples = s.samples[:len(s.samples)-1]
	}
	n := len(s.samples)
	switch {
	case w.retention == 0:
		s.samples = append(s.samples[:0], sample{now, v})
		return
	case n > 1 && s.samples[n-1].t-s.samples[n-2].t < w.minGap:
		s.samples[n-1] = sample{now, v}
	default:
		s.samples = append(s.samples, sample{now, v})
	}
	expired := 0
	for expired < len(s.samples)-1 && s.samples[expired].t < now-w.retention {
		expired++
	}
	if expired > len(s.samples)/4 {
		s.samples = slices.Delete(s.samples, 0, expired)
	}
}

// end marks a series that its target no longer exports as stale. It drops the series and
// returns true once no query can read its samples.
func (t *Target) end(s *Series, now int64) bool {
	w := t.window
	newest := s.samples[len(s.samples)-1]
	if w.retention > 0 && !value.IsStaleNaN(newest.v) {
		w.append(s, now, math.Float64frombits(value.StaleNaN))
		return false
	}
	if w.retention > 0 && newest.t >= now-w.retention {
		return false
	}
	return t.drop(s)
}

func (t *Target) drop(s *Series) bool {
	t.window.hide(s)
	t.count--
	t.window.count--
	t.size -= s.size
	t.window.size -= s.size
	return true
}

// show makes a series visible to queries.
func (w *Window) show(s *Series) {
	if !s.visible {
		name := s.labels.Get(model.MetricNameLabel)
		s.index = len(w.byName[name])
		w.byName[name] = append(w.byName[name], s)
		w.version++
		s.visible = true
	}
}

// hide removes a series from the view of queries, and deletes its samples.
func (w *Window) hide(s *Series) {
	if !s.visible {
		return
	}
	name := s.labels.Get(model.MetricNameLabel)
	list := w.byName[name]
	w.version++
	last := list[len(list)-1]
	list[s.index], last.index = last, s.index
	list[len(list)-1] = nil
	if w.byName[name] = list[:len(list)-1]; len(list) == 1 {
		delete(w.byName, name)
	}
	s.visible, s.samples = false, nil
}

// Len returns the number of series, without up.
func (w *Window) Len() int {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.count
}
