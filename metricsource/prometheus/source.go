package prometheus

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/api"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"

	"github.com/inference-scaler/inference-scaler/metricsource"
	"github.com/inference-scaler/inference-scaler/metricsource/httpclient"
)

const (
	// maxConnections to one server of one source: its questions are asked together.
	maxConnections = 4
	// minRoundGap is the least time between two rounds, though there be new questions.
	minRoundGap = 500 * time.Millisecond
)

// complete has a server whose data are spread refuse to answer from a part of
// them (Thanos, VictoriaMetrics; others ignore it): what is missing is not zero.
var complete = url.Values{"partial_response": {"false"}, "deny_partial_response": {"1"}}.Encode()

// Config says what server is asked, and how.
type Config struct {
	// Address is the URL that the API's own path is appended to, without a query string.
	Address  string
	Interval time.Duration // between two rounds of questions
	Timeout  time.Duration // for one question
	// Permit refuses addresses that must not be dialled; nil permits all.
	Permit func(netip.Addr) error
	// Credentials for the server; nil: none. See httpclient.Options.
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
	Answered time.Time           // when that came; zero where there was none
	Err      error               // of the last try
}

// Source is a server that is asked the questions of one asker.
type Source struct {
	poller    *Poller
	cfg       Config
	transport *httpclient.Transport
	api       v1.API
	broken    error // why there is no api
	life      context.Context
	end       context.CancelFunc

	mu        sync.Mutex
	questions []Question
	answers   map[string]Answer
	last      time.Time // when a round ended
	failures  int       // rounds in a row without any answer
}

// Open adds a source without questions. It must be closed. An address that is no
// URL is what its answers will say.
func (p *Poller) Open(cfg Config) *Source {
	s := &Source{
		poller: p,
		cfg:    cfg,
		transport: httpclient.NewTransport(httpclient.Options{
			URL:         cfg.Address,
			Dial:        p.dial,
			Permit:      cfg.Permit,
			Timeout:     cfg.Timeout,
			Interval:    cfg.Interval,
			Verify:      true,
			Credentials: cfg.Credentials,
			Connections: maxConnections,
		}),
		answers: map[string]Answer{},
	}
	s.life, s.end = context.WithCancel(context.Background())
	client, err := api.NewClient(api.Config{Address: cfg.Address + "?" + complete, Client: &http.Client{
		Transport:     bounded{s.transport},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}})
	if err != nil {
		s.broken = err
		return s
	}
	s.api = v1.NewAPI(client)
	return s
}

// Ask makes the given questions those of the source. Where they are others than
// before they are asked at once; the answers there are stand until then.
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
		s.poller.queue.By(s, latest(time.Now(), s.last.Add(minRoundGap)))
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Answers returns what is known of each question, by its name: nothing of one that
// has not been asked yet.
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
	s.transport.Close()
}

// round asks all questions, together.
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
		asking.Go(func() { got[i] = s.query(ctx, q.PromQL) })
	}
	asking.Wait()
	if ctx.Err() != nil || len(questions) == 0 {
		return
	}
	s.note(questions, got)
	s.cfg.OnAnswer()
}

// note takes the answers to those of the questions that are still asked.
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

func (s *Source) query(ctx context.Context, promQL string) Answer {
	begun := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.Timeout, errTimeout)
	defer cancel()
	large := &turn{slots: s.poller.large}
	defer large.end()
	ctx = context.WithValue(ctx, turnOf{}, large)
	// The server's own clock is the one its samples are dated by.
	a := Answer{PromQL: promQL}
	if s.broken != nil {
		a.Err = s.broken
		return a
	}
	value, warnings, infos, err := s.api.Query(ctx, promQL, time.Time{})
	a.Answered = time.Now()
	if err == nil {
		a.Result, err = result(value)
		a.Result.Warnings = append(append(a.Result.Warnings, warnings...), infos...)
	}
	if err != nil {
		a.Err = fmt.Errorf("%s: %w", s.cfg.Address, plain(ctx, err))
	}
	s.poller.took.Observe(time.Since(begun).Seconds())
	s.poller.queries.WithLabelValues(class(err)).Inc()
	return a
}
