package metricsource

import (
	"context"
	"iter"
	"slices"
	"sort"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
)

// Querier implements storage.Queryable.
func (w *Window) Querier(_, maxt int64) (storage.Querier, error) {
	return querier{window: w, maxt: maxt}, nil
}

type querier struct {
	window   *Window
	maxt     int64 // ms
	excluded map[string]bool
	meter    *meter
}

// Select copies the matching series, so that the engine can read them while targets
// write.
func (q querier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	until, newestOnly := q.maxt, false
	if hints != nil {
		until = min(until, hints.End)
		newestOnly = hints.Range == 0 && hints.Step == 0
	}
	// The query asks for the current samples, not for those of an earlier time.
	current := q.window.retention == 0 || newestOnly && q.meter != nil && until >= q.meter.at
	set := &seriesSet{at: -1}
	q.window.mu.RLock()
	defer q.window.mu.RUnlock()
	for s, err := range q.window.matching(ctx, matchers) {
		if err != nil {
			set.err = err
			break
		}
		if q.excluded[s.labels.Get(model.MetricNameLabel)] {
			continue
		}
		if set.err = q.meter.count(s); set.err != nil {
			break
		}
		newest := s.samples[len(s.samples)-1]
		if current && newest.t > until {
			// The sample was written after the query started, or the clock has been set
			// back. It is the current value in both cases.
			set.series = append(set.series, view{labels: s.labels, samples: []sample{{until, newest.v}}})
			continue
		}
		upTo := sort.Search(len(s.samples), func(i int) bool { return s.samples[i].t > until })
		from := 0
		if newestOnly {
			from = max(0, upTo-1)
		}
		if from < upTo {
			set.series = append(set.series, view{labels: s.labels, samples: slices.Clone(s.samples[from:upTo])})
		}
	}
	if sorted {
		slices.SortFunc(set.series, func(a, b view) int { return labels.Compare(a.labels, b.labels) })
	}
	return set
}

// Without returns the samples of the window, except those of metrics that the other
// window holds too. Otherwise, a metric in both windows would count twice.
func (w *Window) Without(other *Window) storage.Queryable {
	return storage.QueryableFunc(func(mint, maxt int64) (storage.Querier, error) {
		other.mu.RLock()
		defer other.mu.RUnlock()
		excluded := map[string]bool{}
		for name := range other.byName {
			excluded[name] = name != "up"
		}
		return querier{window: w, maxt: maxt, excluded: excluded}, nil
	})
}

// Has reports whether the window holds a series that the query selects.
func (w *Window) Has(q *Query) bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	for _, matchers := range q.selectors {
		for s, err := range w.matching(context.Background(), matchers) {
			if err == nil && s.labels.Get(model.MetricNameLabel) != "up" {
				return true
			}
		}
	}
	return false
}

// matching yields the visible series that all matchers match. It ends with an error when
// ctx is done.
func (w *Window) matching(ctx context.Context, matchers []*labels.Matcher) iter.Seq2[*Series, error] {
	return func(yield func(*Series, error) bool) {
		visited := 0
		visit := func(list []*Series) bool {
			for _, s := range list {
				if err := contextError(ctx, visited); err != nil {
					return yield(nil, err) && false
				}
				visited++
				if matches(s.labels, matchers) && !yield(s, nil) {
					return false
				}
			}
			return true
		}
		if names, ok := nameSet(matchers); ok {
			for _, name := range names {
				if !visit(w.byName[name]) {
					return
				}
			}
			return
		}
		for _, list := range w.byName {
			if !visit(list) {
				return
			}
		}
	}
}

func (querier) LabelValues(context.Context, string, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil // the engine does not use it
}

func (querier) LabelNames(context.Context, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil // the engine does not use it
}

func (querier) Close() error { return nil }

// seriesSet holds copies of the series that a selector matched.
type seriesSet struct {
	series []view
	at     int
	err    error
}

func (s *seriesSet) Next() bool                      { s.at++; return s.at < len(s.series) }
func (s *seriesSet) At() storage.Series              { return s.series[s.at] }
func (s *seriesSet) Err() error                      { return s.err }
func (*seriesSet) Warnings() annotations.Annotations { return nil }

type view struct {
	labels  labels.Labels
	samples []sample
}

func (v view) Labels() labels.Labels { return v.labels }

func (v view) Iterator(reuse chunkenc.Iterator) chunkenc.Iterator {
	if it, ok := reuse.(interface{ Reset(storage.Samples) }); ok {
		it.Reset(v)
		return reuse
	}
	return storage.NewListSeriesIterator(v)
}

// view implements storage.Samples, and *sample implements chunks.Sample, without a copy.
func (v view) Get(i int) chunks.Sample { return &v.samples[i] }
func (v view) Len() int                { return len(v.samples) }

func (s *sample) T() int64                    { return s.t }
func (*sample) ST() int64                     { return 0 }
func (s *sample) F() float64                  { return s.v }
func (*sample) H() *histogram.Histogram       { return nil }
func (*sample) FH() *histogram.FloatHistogram { return nil }
func (*sample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s *sample) Copy() chunks.Sample         { c := *s; return &c }
