package evidence

import (
	"context"
	"time"

	"github.com/prometheus/prometheus/storage"

	"github.com/inference-scaler/inference-scaler/metricsource"
)

// Results remembers results that depend on the newest values alone: they are the same
// until the window holds other ones. Most evaluations of an idle fleet find none. The
// zero Results is fit for use, by one goroutine at a time, over one window.
type Results struct {
	last map[*metricsource.Query]remembered
}

// remembered is a result, and the state of the window that it is of.
type remembered struct {
	version uint64
	result  metricsource.Result
}

// eval evaluates a query over samples: those of the window, or part of them.
func (r *Results) eval(ctx context.Context, q *metricsource.Query, w *metricsource.Window, samples storage.Queryable, part bool, now time.Time) (metricsource.Result, error) {
	// Before the query: a sample that is written meanwhile may not be in the result.
	version, _ := w.Version(now)
	if last, ok := r.last[q]; ok && !part && last.version == version {
		return last.result, nil
	}
	result, err := q.Eval(ctx, samples, now)
	// After the query: a sample that was written meanwhile may have replaced one that
	// the query would have found.
	if _, whole := w.Version(now); err == nil && !part && whole && q.Timeless() {
		if r.last == nil {
			r.last = map[*metricsource.Query]remembered{}
		}
		r.last[q] = remembered{version, result}
	}
	return result, err
}
