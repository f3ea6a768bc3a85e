package prometheus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"golang.org/x/sync/semaphore"

	"github.com/inference-scaler/inference-scaler/metricsource"
	"github.com/inference-scaler/inference-scaler/metricsource/schedule"
)

const (
	maxElements = 10_000
	// maxBody bounds an answer: that of so many elements with their labels.
	maxBody = 4 << 20
	// smallBody is what an answer may have without waiting for another; larger ones
	// take turns, for each takes many times as much once it is decoded.
	smallBody    = 128 << 10
	largeAnswers = 4
	maxMessage   = 300 // of what a server says of an error
)

var (
	errTimeout  = errors.New("no answer in time")
	errTooLarge = fmt.Errorf("the answer is larger than %d MiB", maxBody>>20)
	errTooMany  = fmt.Errorf("the answer has more than %d elements: aggregate them", maxElements)
)

// result turns what the API yields into a Result.
func result(value model.Value) (metricsource.Result, error) {
	var r metricsource.Result
	switch v := value.(type) {
	case *model.Scalar:
		r.Elements = []metricsource.Element{{Labels: "{}", Value: float64(v.Value)}}
	case model.Vector:
		if len(v) > maxElements {
			return r, fmt.Errorf("the query yields %d elements; at most %d: aggregate them", len(v), maxElements)
		}
		r.Elements = make([]metricsource.Element, 0, len(v))
		for _, s := range v {
			if s.Histogram != nil {
				return metricsource.Result{}, errors.New("the query yields a native histogram; wanted: numbers")
			}
			r.Elements = append(r.Elements, metricsource.Element{
				Pod: string(s.Metric["pod"]), Instance: string(s.Metric["instance"]), Labels: s.Metric.String(), Value: float64(s.Value),
			})
		}
	case nil:
		return r, errors.New("what it answers holds no result")
	default:
		return r, fmt.Errorf("the query yields a %T; wanted: an instant vector or a scalar", value)
	}
	slices.SortFunc(r.Elements, func(a, b metricsource.Element) int { return strings.Compare(a.Labels, b.Labels) })
	return r, nil
}

// bounded keeps answers from filling the memory.
type bounded struct{ next http.RoundTripper }

func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(req)
	if err == nil {
		resp.Body = &boundedBody{ReadCloser: resp.Body, req: req}
	}
	return resp, err
}

type boundedBody struct {
	io.ReadCloser
	req          *http.Request
	read, braces int
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.read >= maxBody {
		return 0, errTooLarge
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), maxBody-b.read)])
	b.read += n
	// An element has two, and its labels hardly any.
	if b.braces += bytes.Count(p[:n], []byte("{")); b.braces > 4*maxElements {
		return n, errTooMany
	}
	if t, ok := b.req.Context().Value(turnOf{}).(*turn); ok && err == nil && b.read > smallBody {
		err = t.take(b.req.Context())
	}
	return n, err
}

// turn is a query's among those whose answers are large.
type turn struct {
	slots *semaphore.Weighted

	mu           sync.Mutex
	taken, ended bool
}

type turnOf struct{}

func (t *turn) take(ctx context.Context) error {
	t.mu.Lock()
	taken := t.taken
	t.mu.Unlock()
	if taken {
		return nil
	}
	if err := t.slots.Acquire(ctx, 1); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		t.slots.Release(1)
		return context.Canceled
	}
	t.taken = true
	return nil
}

// end gives the turn to the next. The body may still be read: the query's client does not
// wait for that.
func (t *turn) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended = true; t.taken {
		t.slots.Release(1)
	}
}

// plain says in few words what went wrong: the address is known, and a body that
// is none of the API's may hold anything.
func plain(ctx context.Context, err error) error {
	var refused *v1.Error
	var op *net.OpError
	var at *url.Error
	switch {
	case errors.Is(context.Cause(ctx), errTimeout):
		return errTimeout
	case errors.As(err, &refused) && refused.Type == v1.ErrBadResponse && strings.Contains(refused.Msg, "bad response code 3"):
		return fmt.Errorf("redirects are not followed (%s)", refused.Msg)
	case errors.As(err, &refused) && refused.Type == v1.ErrBadResponse:
		return fmt.Errorf("what it answers is not of Prometheus' API: %s", clip(refused.Msg))
	case refused != nil:
		return fmt.Errorf("the server answers: %s", clip(refused.Msg))
	case errors.As(err, &op):
		return op.Err
	case errors.As(err, &at):
		return at.Err
	}
	return err
}

func clip(s string) string {
	s = strings.ToValidUTF8(s, "�")
	if len(s) > maxMessage {
		return strings.ToValidUTF8(s[:maxMessage], "") + "…"
	}
	return s
}

// class is the error's, for a metric label.
func class(err error) string {
	var refused *v1.Error
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &refused) && (refused.Type == v1.ErrBadData || refused.Type == v1.ErrExec):
		return "refused"
	default:
		return "failed"
	}
}

// reschedule queues the next round.
func (s *Source) reschedule(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life.Err() == nil && len(s.questions) > 0 {
		s.poller.queue.By(s, now.Add(schedule.BackOff(s.cfg.Interval, s.failures)))
	}
}
