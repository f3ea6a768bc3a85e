package prometheus

// This file is the interface before Group. Its last user is the evaluator's source
// of polled queries; the file goes with that.

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/common/model"

	"github.com/inference-scaler/inference-scaler/metricsource"
	"github.com/inference-scaler/inference-scaler/metricsource/httpclient"
	"github.com/inference-scaler/inference-scaler/metricsource/schedule"
)

// SourceConfig says what server a Source asks, and how. See Config.
type SourceConfig struct {
	Address     string
	Interval    time.Duration
	Timeout     time.Duration
	Permit      func(netip.Addr) error
	Credentials func(context.Context, *url.URL) (*httpclient.Credentials, error)
	// OnAnswer is called after each round, with or without an answer. It must be quick.
	OnAnswer func()
}

// Question is an expression under a name of its asker.
type Question struct{ Name, PromQL string }

// Answer is what is known of a question.
type Answer struct {
	PromQL   string              // that was answered
	Result   metricsource.Result // the last good one
	Answered time.Time           // the time of that; zero without one
	Err      error               // of the last try
}

// Source is a server that is asked the questions of one asker.
type Source struct {
	poller *Poller
	cfg    SourceConfig
	server *server
	life   context.Context
	end    context.CancelFunc

	mu        sync.Mutex
	questions []Question
	answers   map[string]Answer
	last      time.Time // the end of the last round
	failures  int       // rounds in a row without any answer
}

// OpenSource adds a source without questions. It must be closed.
func (p *Poller) OpenSource(cfg SourceConfig) *Source {
	s := &Source{poller: p, cfg: cfg, answers: map[string]Answer{}, server: p.connect(Config{
		Address: cfg.Address, Interval: cfg.Interval, Timeout: cfg.Timeout, Permit: cfg.Permit, Credentials: cfg.Credentials,
	})}
	s.life, s.end = context.WithCancel(context.Background())
	return s
}

// Ask makes the given questions those of the source. Other questions than before are
// asked at once; the present answers apply until then.
func (s *Source) Ask(questions []Question) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Equal(questions, s.questions) {
		return
	}
	s.questions = slices.Clone(questions)
	maps.DeleteFunc(s.answers, func(name string, _ Answer) bool {
		return !slices.ContainsFunc(questions, func(q Question) bool { return q.Name == name })
	})
	if s.life.Err() == nil && len(questions) > 0 {
		s.poller.queue.By(s, soon(time.Now(), s.last))
	}
}

// Answers returns what is known of each question, by its name.
func (s *Source) Answers() map[string]Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.answers)
}

// Close ends a round under way. The source must not be used any more.
func (s *Source) Close() {
	s.mu.Lock()
	s.end()
	s.poller.queue.Remove(s)
	s.mu.Unlock()
	s.server.transport.Close()
}

func (s *Source) round(ctx context.Context) {
	s.mu.Lock()
	questions := s.questions
	s.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	got := make([]Answer, len(questions))
	var asking sync.WaitGroup
	for i, q := range questions {
		asking.Go(func() { got[i] = s.ask(ctx, q.PromQL) })
	}
	asking.Wait()
	if ctx.Err() != nil || len(questions) == 0 {
		return
	}
	s.note(questions, got)
	s.cfg.OnAnswer()
}

func (s *Source) note(questions []Question, got []Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = time.Now()
	s.failures++
	for i, q := range questions {
		a := got[i]
		if a.Err == nil {
			s.failures = 0
		}
		if !slices.ContainsFunc(s.questions, func(now Question) bool { return now.Name == q.Name }) {
			continue
		}
		if before := s.answers[q.Name]; a.Err != nil {
			a.PromQL, a.Result, a.Answered = before.PromQL, before.Result, before.Answered
		}
		s.answers[q.Name] = a
	}
}

func (s *Source) ask(ctx context.Context, promQL string) Answer {
	v, warnings, err := s.server.query(ctx, promQL)
	a := Answer{PromQL: promQL, Answered: time.Now(), Err: err}
	if err == nil {
		a.Result, a.Err = result(v)
		a.Result.Warnings = append(a.Result.Warnings, warnings...)
	}
	return a
}

func result(v model.Vector) (metricsource.Result, error) {
	r := metricsource.Result{Elements: make([]metricsource.Element, 0, len(v))}
	for _, s := range v {
		if s.Histogram != nil {
			return metricsource.Result{}, errors.New("the query yields a native histogram; wanted: numbers")
		}
		r.Elements = append(r.Elements, metricsource.Element{
			Pod: string(s.Metric["pod"]), Instance: string(s.Metric["instance"]), Labels: s.Metric.String(), Value: float64(s.Value),
		})
	}
	slices.SortFunc(r.Elements, func(a, b metricsource.Element) int { return strings.Compare(a.Labels, b.Labels) })
	return r, nil
}

func (s *Source) reschedule(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life.Err() == nil && len(s.questions) > 0 {
		s.poller.queue.By(s, now.Add(schedule.BackOff(s.cfg.Interval, s.failures)))
	}
}
