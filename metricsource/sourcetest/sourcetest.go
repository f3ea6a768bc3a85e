package sourcetest

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/metricsource"
)

// InvalidUTF8 is a label value of three bytes that are not UTF-8.
const InvalidUTF8 = "\xff\xfe\xfd"

// Config configures the writer of a Source.
type Config struct {
	Window    *metricsource.Window
	Selection *metricsource.Selection
}

// Series is one series that a target exports.
type Series struct {
	Name   string
	Labels map[string]string
	Value  float64
}

// Answer is the response of a target in an exchange. The zero Answer exports no series.
type Answer struct {
	Series []Series
	// Broken means that the target responds with a failure of the writer's protocol.
	Broken bool
	// Late means that the response is valid, but arrives after the timeout.
	Late bool
}

// Source is a writer with its targets. All calls are made in one synctest bubble. The
// Cleanup of the test must stop its goroutines.
type Source interface {
	// Label returns the label with the name of a target: pod or instance.
	Label() string
	// Set replaces the targets. All are ready. Set returns when the other targets are
	// removed.
	Set(targets ...string)
	// Begin starts an exchange with a target, and returns before the response. finish sets
	// the response, also for later exchanges, and returns when the writer has finished the
	// exchange. The error is nil if the window contains the response with all required
	// series.
	Begin(target string) (finish func(Answer) error)
	// Status returns the Status of the writer's group.
	Status() []metricsource.Status
	// Close closes the writer's group. The targets continue to run.
	Close()
}

// Run runs the suite. It calls open once per test, each time in a new bubble.
func Run(t *testing.T, open func(*testing.T, Config) Source) {
	for name, test := range map[string]func(*suite){
		"absent":    (*suite).absent,
		"failed":    (*suite).failed,
		"late":      (*suite).late,
		"removed":   (*suite).removed,
		"huge":      (*suite).huge,
		"hostile":   (*suite).hostile,
		"cancelled": (*suite).cancelled,
	} {
		// With a lookback, the window keeps ended series for a while, and allows fewer series.
		for _, lookback := range []time.Duration{0, metricsource.MaxLookback} {
			t.Run(fmt.Sprintf("%s/lookback=%s", name, lookback), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					window := metricsource.NewWindow(lookback)
					selection := metricsource.NewSelection(metricsource.Idle{}, []*metricsource.Query{parse(t, "q")}, []*metricsource.Query{parse(t, "w")})
					test(&suite{T: t, Source: open(t, Config{Window: window, Selection: selection}), window: window, lookback: lookback})
				})
			})
		}
	}
}

type suite struct {
	*testing.T
	Source
	window   *metricsource.Window
	lookback time.Duration
}

func parse(t *testing.T, text string) *metricsource.Query {
	q, err := metricsource.ParseQuery(text)
	require.NoError(t, err)
	return q
}

// exchange runs one exchange.
func (s *suite) exchange(target string, a Answer) error { return s.Begin(target)(a) }

// exports returns a response with q at this value.
func exports(v float64) Answer { return Answer{Series: []Series{{Name: "q", Value: v}}} }

// load returns the sums of a metric by target.
func (s *suite) load(name string) map[string]float64 {
	s.Helper()
	values := map[string]float64{}
	for _, e := range s.elements(fmt.Sprintf("sum by (%s) (%s)", s.Label(), name)) {
		values[s.targetOf(e)] = e.Value
	}
	return values
}

func (s *suite) elements(text string) []metricsource.Element {
	s.Helper()
	r, err := parse(s.T, text).Eval(s.Context(), s.window, time.Now())
	require.NoError(s, err)
	return r.Elements
}

func (s *suite) targetOf(e metricsource.Element) string {
	if s.Label() == "instance" {
		return e.Instance
	}
	return e.Pod
}

// status returns the Status of a target, and whether there is one.
func (s *suite) status(target string) (metricsource.Status, bool) {
	for _, st := range s.Status() {
		if st.Target == target {
			return st, true
		}
	}
	return metricsource.Status{}, false
}

// pass advances the virtual time, and waits until all goroutines are blocked.
func pass(d time.Duration) {
	time.Sleep(d) // virtual
	synctest.Wait()
}

func (s *suite) absent() {
	s.Set("a", "b")
	require.Empty(s, s.load("q"), "before the first response")
	require.NoError(s, s.exchange("a", Answer{Series: []Series{
		{Name: "q", Labels: map[string]string{"i": "1"}, Value: 7},
		{Name: "q", Labels: map[string]string{"i": "2"}, Value: 3},
		{Name: "w", Value: 1},
		{Name: "unwanted", Value: 1},
	}}))
	require.Equal(s, map[string]float64{"a": 10}, s.load("q"))
	require.Equal(s, map[string]float64{"a": 1}, s.load("w"))
	require.Empty(s, s.elements("unwanted"))
	if st, ok := s.status("b"); ok { // a target that reports has no Status before its report
		require.Zero(s, st.Answered)
	}

	require.NoError(s, s.exchange("a", Answer{Series: []Series{{Name: "q", Labels: map[string]string{"i": "1"}, Value: 7}}}))
	require.Equal(s, map[string]float64{"a": 7}, s.load("q"), "a series ended")
	require.Empty(s, s.elements("w"), "an optional series ended")

	err := s.exchange("a", Answer{Series: []Series{{Name: "w", Value: 2}}})
	var none *metricsource.NoSeriesError
	require.ErrorAs(s, err, &none)
	require.Equal(s, []string{"q"}, none.Missing)
	require.Equal(s, map[string]float64{"a": 2}, s.load("w"), "exported series are updated")
	if load := s.load("q"); len(load) > 0 {
		require.Equal(s, map[string]float64{"a": 7}, load, "the last sample, if any")
	}
	require.NoError(s, s.exchange("a", exports(0)))
	require.Equal(s, map[string]float64{"a": 0}, s.load("q"), "0 is a value")
}

func (s *suite) failed() { s.fails(Answer{Broken: true}, time.Minute) }

func (s *suite) late() {
	late := exports(9)
	late.Late = true
	s.fails(late, time.Minute)
}

// fails runs a failed exchange between two successful ones. during is the time from the
// failure to the next success.
func (s *suite) fails(a Answer, during time.Duration) {
	s.Helper()
	s.Set("a")
	require.NoError(s, s.exchange("a", exports(7)))
	before, ok := s.status("a")
	require.True(s, ok)
	require.Equal(s, time.Now(), before.Answered)
	require.NoError(s, before.Err)
	pass(time.Second)

	require.Error(s, s.exchange("a", a))
	for range 3 {
		require.Equal(s, map[string]float64{"a": 7}, s.load("q"))
		after, ok := s.status("a")
		require.True(s, ok)
		require.WithinRange(s, after.Answered, before.Answered, before.Answered.Add(time.Second), "the age increases")
		pass(during / 3)
	}
	require.NoError(s, s.exchange("a", exports(8)))
	require.Equal(s, map[string]float64{"a": 8}, s.load("q"))
}

func (s *suite) removed() {
	s.Set("a", "b")
	require.NoError(s, s.exchange("a", exports(7)))
	require.NoError(s, s.exchange("b", exports(5)))
	require.Equal(s, map[string]float64{"a": 7, "b": 5}, s.load("q"))

	finish := s.Begin("a")
	s.Set("b")
	for range 3 {
		require.Equal(s, map[string]float64{"b": 5}, s.load("q"))
		require.NotContains(s, s.load("up"), "a")
		_, ok := s.status("a")
		require.False(s, ok)
		_ = finish(exports(9)) // the error is irrelevant
		finish = func(Answer) error { return nil }
		pass(10 * time.Second)
	}

	s.Set("a", "b")
	finish = s.Begin("a")
	require.Equal(s, map[string]float64{"b": 5}, s.load("q"), "no response since its return")
	require.NoError(s, finish(exports(1)))
	require.Equal(s, map[string]float64{"a": 1, "b": 5}, s.load("q"))
}

func (s *suite) huge() {
	s.fails(Answer{Series: many(metricsource.MaxSeries + 1)}, time.Second)
	s.fails(Answer{Series: []Series{{Name: "q", Labels: map[string]string{"i": strings.Repeat("x", 17<<20)}, Value: 1}}}, time.Second)
	if s.lookback == metricsource.MaxLookback {
		s.fails(Answer{Series: many(7000)}, time.Second) // the limit is 6655
	}
	require.LessOrEqual(s, s.window.Len(), 2)
}

func many(n int) []Series {
	series := make([]Series, n)
	for i := range series {
		series[i] = Series{Name: "q", Labels: map[string]string{"i": strconv.Itoa(i)}, Value: 1}
	}
	return series
}

func (s *suite) hostile() {
	s.Set("a", "b")
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		require.NoError(s, s.exchange("a", exports(7)))
		want := v
		if s.exchange("a", exports(v)) != nil {
			want = 7
		}
		got := s.elements("q")
		require.Len(s, got, 1)
		require.Equal(s, fmt.Sprint(want), fmt.Sprint(got[0].Value), "exported: %v", v)
	}

	require.NoError(s, s.exchange("a", Answer{Series: []Series{{Name: "q", Value: 1}, {Name: "w", Value: 3}, {Name: "q", Value: 2}}}), "duplicate")
	got := s.elements("q")
	require.Len(s, got, 1)
	require.Contains(s, []float64{1, 2}, got[0].Value)

	require.NoError(s, s.exchange("a", exports(7)))
	err := s.exchange("a", Answer{Series: []Series{{Name: "q", Labels: map[string]string{"x": InvalidUTF8}, Value: 8}}})
	got = s.elements("q")
	require.Len(s, got, 1)
	require.NotContains(s, got[0].Labels, `\x`, "invalid UTF-8 in PromQL notation")
	require.Equal(s, err != nil, got[0].Value == 7, "the value is kept only if the response was rejected")

	err = s.exchange("a", Answer{Series: []Series{{Name: "q", Labels: map[string]string{s.Label(): "b", "namespace": "other", "job": "other"}, Value: 9}}})
	require.NoError(s, err)
	require.Equal(s, map[string]float64{"a": 9}, s.load("q"), "exported labels of another target are renamed")
	require.Empty(s, s.elements(`q{namespace="other"}`))
	s.Set("b")
	require.Empty(s, s.elements("q"))
}

func (s *suite) cancelled() {
	s.Set("a")
	require.NoError(s, s.exchange("a", exports(7)))
	finish := s.Begin("a")
	s.Close()
	for range 3 {
		require.Empty(s, s.elements("q"))
		require.Empty(s, s.elements("up"))
		require.Zero(s, s.window.Len())
		require.Empty(s, s.Status())
		_ = finish(exports(9)) // the error is irrelevant
		finish = func(Answer) error { return nil }
		pass(10 * time.Second)
	}
}
