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
	// MaxSeries bounds the series of one window.
	MaxSeries = 100_000
	// maxPoints bounds the samples of one series: one a second over MaxLookback.
	// Where a target is read more often than that over a long lookback, the
	// samples between are thinned.
	maxPoints = int64(MaxLookback / time.Second)
	// maxSamples bounds the samples of one window, at 16 bytes each.
	maxSamples = 4_000_000
	// maxLabels bounds the labels of all series of one window, in bytes.
	maxLabels = 16 << 20
	// clockStep is by how much later readings may be dated before earlier ones.
	clockStep = 30 * time.Second
)

// ErrTooManySeries: a reading would make a window hold more series than it may.
var ErrTooManySeries = errors.New("too many series")

var errLabels = fmt.Errorf("%w: their labels are larger than %d MiB", ErrTooManySeries, maxLabels>>20)

// Window holds the recent samples of one workload, by target. It is what
// Prometheus' engine reads (storage.Queryable), and it is safe for concurrent
// use. The newest sample of a series stays for as long as its target exists and
// exports it: a target that fails to answer leaves its last word standing.
type Window struct {
	keep      int64 // ms; older samples go, but for the newest of each series
	thin      int64 // ms; samples closer than this replace each other
	maxSeries int

	mu      sync.RWMutex
	byName  map[string][]*Series
	count   int
	size    int // of the labels of all series, in bytes
	updated time.Time
	version uint64
	newest  int64 // ms; no sample is of later
}

// NewWindow returns a window that keeps samples for a lookback of at most MaxLookback.
func NewWindow(lookback time.Duration) *Window {
	keep := min(lookback, MaxLookback).Milliseconds()
	points := 1 + min(keep/100, maxPoints)
	return &Window{
		keep:      keep,
		thin:      keep / maxPoints,
		maxSeries: min(MaxSeries, int(maxSamples/points)),
		byName:    map[string][]*Series{},
	}
}

// Target is one source of a window's samples: a pod, or an address.
type Target struct {
	window   *Window
	common   labels.Labels        // the labels that every series of the target carries
	series   map[uint64][]*Series // by the hash of their labels
	count    int
	size     int
	up       *Series
	round    uint64 // of readings
	complete uint64 // the last round that was
	gone     bool   // removed: a reading under way comes too late
}

// Series is one series of a Target: its labels and its recent samples.
type Series struct {
	labels  labels.Labels
	size    int      // of them, in bytes
	samples []sample // oldest first, at least one while linked
	round   uint64   // the target's round that brought the newest sample
	stands  uint64   // the target's last complete round that it was part of
	linked  bool     // in byName, and so visible to queries
	place   int      // there
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

// Updated returns when the newest of its samples were taken, of any target; zero
// where there have been none.
func (w *Window) Updated() time.Time {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.updated
}

// Version tells states of the window apart by the series that it holds and the newest
// value of each; that a value has been seen once more makes no other state. A query at the
// given moment reads all of the state if it is whole: no sample is of later.
func (w *Window) Version(at time.Time) (version uint64, whole bool) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.version, w.newest <= at.UnixMilli()
}

// Target adds a target, whose series all carry the given labels (pod, job,
// instance, namespace). It must be removed with Remove.
func (w *Window) Target(common labels.Labels) *Target {
	t := &Target{window: w, common: common, series: map[uint64][]*Series{}}
	t.up = &Series{labels: labels.NewBuilder(common).Set(model.MetricNameLabel, "up").Labels()}
	return t
}

// Series returns a series with these labels, for points of readings to come. The
// window does not hold it before it has a sample. A label that the target's own
// labels take is kept as exported_…, as Prometheus does.
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

// Commit takes a complete reading of the target. A series that it does not hold
// has ended. Of two points of one series the last counts.
func (t *Target) Commit(at time.Time, points []Point) error { return t.take(at, points, true) }

// Merge takes a reading that lacks series which the target should export: those
// that it holds move on, and what the last complete reading held stays as it was.
func (t *Target) Merge(at time.Time, points []Point) error { return t.take(at, points, false) }

func (t *Target) take(at time.Time, points []Point, complete bool) error {
	w, now := t.window, at.UnixMilli()
	w.mu.Lock()
	defer w.mu.Unlock()
	if t.gone {
		return nil
	}
	w.setBack(at)
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
		t.complete = t.round
	}
	w.append(t.up, now, 1)
	for _, p := range points {
		s := p.Series
		if !s.linked {
			s = t.link(s)
		}
		s.round = t.round
		if complete {
			s.stands = t.round
		}
		w.append(s, now, p.Value)
	}
	over := w.count > w.maxSeries || w.size > maxLabels // with those that have ended, which are the first to go
	for hash, list := range t.series {
		list = slices.DeleteFunc(list, func(s *Series) bool {
			ended := s.round != t.round && (t.complete == 0 || s.stands != t.complete)
			return ended && (over && t.drop(s) || t.end(s, now))
		})
		if len(list) == 0 {
			delete(t.series, hash)
		} else {
			t.series[hash] = list
		}
	}
	return nil
}

// link makes a series visible, or returns the one that has its labels already.
func (t *Target) link(s *Series) *Series {
	hash := s.labels.Hash()
	for _, have := range t.series[hash] {
		if labels.Equal(have.labels, s.labels) {
			return have
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

// Fail notes that the target did not answer: up is 0, and every series stays as it was.
func (t *Target) Fail(at time.Time) {
	t.window.mu.Lock()
	defer t.window.mu.Unlock()
	if !t.gone {
		t.window.setBack(at)
		t.window.append(t.up, at.UnixMilli(), 0)
	}
}

// setBack moves all samples to before a moment that lies far before the newest of them:
// the clock has been set back, and queries of now would not see what is of later.
func (w *Window) setBack(at time.Time) {
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

// Remove takes the target and all its series out of the window.
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
	t.gone = true
}

// append adds a sample to a series.
func (w *Window) append(s *Series, now int64, v float64) {
	w.show(s)
	w.newest = max(w.newest, now)
	if n := len(s.samples); n == 0 || math.Float64bits(s.samples[n-1].v) != math.Float64bits(v) {
		w.version++
	}
	// The clock went back: what lies ahead of it cannot be told from the truth.
	for len(s.samples) > 0 && s.samples[len(s.samples)-1].t >= now {
		s.samples = s.samples[:len(s.samples)-1]
	}
	n := len(s.samples)
	switch {
	case w.keep == 0:
		s.samples = append(s.samples[:0], sample{now, v})
		return
	case n > 1 && s.samples[n-1].t-s.samples[n-2].t < w.thin:
		s.samples[n-1] = sample{now, v}
	default:
		s.samples = append(s.samples, sample{now, v})
	}
	expired := 0
	for expired < len(s.samples)-1 && s.samples[expired].t < now-w.keep {
		expired++
	}
	if expired > len(s.samples)/4 {
		s.samples = slices.Delete(s.samples, 0, expired)
	}
}

// end marks a series that its target no longer exports as stale, and reports
// whether nothing of it is left that a query could read.
func (t *Target) end(s *Series, now int64) bool {
	w := t.window
	newest := s.samples[len(s.samples)-1]
	if w.keep > 0 && !value.IsStaleNaN(newest.v) {
		w.append(s, now, math.Float64frombits(value.StaleNaN))
		return false
	}
	if w.keep > 0 && newest.t >= now-w.keep {
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

// show lets queries see a series, and hide keeps them from it.
func (w *Window) show(s *Series) {
	if !s.linked {
		name := s.labels.Get(model.MetricNameLabel)
		s.place = len(w.byName[name])
		w.byName[name] = append(w.byName[name], s)
		w.version++
		s.linked = true
	}
}

func (w *Window) hide(s *Series) {
	if !s.linked {
		return
	}
	name := s.labels.Get(model.MetricNameLabel)
	list := w.byName[name]
	w.version++
	last := list[len(list)-1]
	list[s.place], last.place = last, s.place
	list[len(list)-1] = nil
	if w.byName[name] = list[:len(list)-1]; len(list) == 1 {
		delete(w.byName, name)
	}
	s.linked, s.samples = false, nil
}

// Len returns the number of series held, up aside.
func (w *Window) Len() int {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.count
}
