package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/test/e2e/inference"
)

const (
	lookEvery = 50 * time.Millisecond
	askEvery  = 500 * time.Millisecond // the scaler
	rowEvery  = 5 * time.Second        // while nothing but the load changes
)

// moment is what there is to see of a fleet at one time.
type moment struct {
	at       time.Time
	Replicas int // spec.replicas of the workload
	Desired  int // status.desiredReplicas of the HPA, -1 where there is none
	// Value and Wanted are the scaler's answer, in load and in replicas; Wanted is
	// -1 without an answer.
	Value  float64
	Wanted int
	inference.Stats
}

// change is a change of spec.replicas.
type change struct {
	at       time.Time
	from, to int
}

// timeline watches a fleet.
type timeline struct {
	fleet *fleet
	begun time.Time
	stop  context.CancelFunc
	done  chan struct{}

	mu      sync.Mutex
	now     moment
	rows    strings.Builder
	row     moment // the last one that was written
	changes []change
	rules   []*rule
	notes   []string
}

// rule is what must hold at every moment.
type rule struct {
	text   string
	broken func(moment) bool
	found  string
}

func newTimeline(ctx context.Context, f *fleet) *timeline {
	l := &timeline{fleet: f, begun: time.Now(), done: make(chan struct{})}
	l.now = l.look(moment{Wanted: -1})
	ctx, l.stop = context.WithCancel(ctx)
	go l.watch(ctx)
	return l
}

func (l *timeline) stopWatching() {
	l.stop()
	<-l.done
}

func (l *timeline) watch(ctx context.Context) {
	defer close(l.done)
	var asking sync.WaitGroup
	defer asking.Wait()
	looks, asks := time.NewTicker(lookEvery), time.NewTicker(askEvery)
	defer looks.Stop()
	defer asks.Stop()
	answers := make(chan moment, 1)
	busy := false
	last := moment{Wanted: -1}
	for {
		select {
		case <-ctx.Done():
			return
		case last = <-answers:
			busy = false
		case <-asks.C:
			if !busy {
				busy = true
				asking.Go(func() { answers <- l.ask() })
			}
		case <-looks.C:
			l.record(l.look(last))
		}
	}
}

// look is the present moment, with the scaler's last answer.
func (l *timeline) look(last moment) moment {
	f := l.fleet
	m := moment{at: time.Now(), Desired: -1, Value: last.Value, Wanted: last.Wanted, Stats: f.gateway.Stats()}
	if n, err := f.replicas(); err == nil {
		m.Replicas = n
	}
	if hpa, err := f.hpa(); err == nil {
		m.Desired = int(hpa.Status.DesiredReplicas)
	}
	return m
}

// replicas is the workload's spec.replicas.
func (f *fleet) replicas() (int, error) {
	apps := f.informers.Apps().V1()
	if f.Kind == "StatefulSet" {
		set, err := apps.StatefulSets().Lister().StatefulSets(f.namespace).Get(f.Name)
		if err != nil {
			return 0, err
		}
		return int(*set.Spec.Replicas), nil
	}
	deployment, err := apps.Deployments().Lister().Deployments(f.namespace).Get(f.Name)
	if err != nil {
		return 0, err
	}
	return int(*deployment.Spec.Replicas), nil
}

// ask asks the scaler what it answers for the fleet.
func (l *timeline) ask() moment {
	m := moment{Wanted: -1}
	body, err := l.fleet.explanation()
	if err != nil {
		return m
	}
	var all []struct {
		Value    *float64
		Replicas *int
	}
	if json.Unmarshal(body, &all) != nil {
		return m
	}
	for _, e := range all {
		if e.Replicas != nil && e.Value != nil && *e.Replicas > m.Wanted {
			m.Wanted, m.Value = *e.Replicas, *e.Value
		}
	}
	return m
}

var scalerClient = &http.Client{Timeout: 5 * time.Second}

// explanation is the scaler's own account of the fleet.
func (f *fleet) explanation() ([]byte, error) {
	ready := f.readyScalers(f.scaler.Namespace)
	if len(ready) == 0 {
		return nil, errors.New("no scaler is ready")
	}
	query := url.Values{"namespace": {f.namespace}, "name": {f.Name}}
	resp, err := scalerClient.Get("http://" + ready[0].Status.PodIP + ":8080/api/v1/why?" + query.Encode())
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

func (l *timeline) record(m moment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m.Replicas != l.now.Replicas {
		l.changes = append(l.changes, change{m.at, l.now.Replicas, m.Replicas})
	}
	l.now = m
	for _, r := range l.rules {
		if r.found == "" && r.broken(m) {
			r.found = l.format(m)
			l.rows.WriteString("  BROKEN: " + r.text + "\n")
		}
	}
	r := l.row
	if m.Replicas != r.Replicas || m.Desired != r.Desired || m.Wanted != r.Wanted || m.Ready != r.Ready ||
		m.Servers != r.Servers || m.at.Sub(r.at) >= rowEvery {
		l.rows.WriteString(l.format(m))
		l.row = m
	}
}

func (l *timeline) format(m moment) string {
	known := func(n int) string {
		if n < 0 {
			return "–"
		}
		return strconv.Itoa(n)
	}
	return fmt.Sprintf("%7.1fs  scaler %6.1f → %-2s  HPA %-2s  replicas %-2d  pods %-2d ready %-2d  running %-3d waiting %-3d gateway %d\n",
		m.at.Sub(l.begun).Seconds(), m.Value, known(m.Wanted), known(m.Desired), m.Replicas, m.Servers, m.Ready,
		m.Running, m.Waiting, m.Backlog+m.StreamQueue)
}

func (l *timeline) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rows.String()
}

// note writes something into the timeline.
func (l *timeline) note(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(&l.rows, "%7.1fs  ── %s\n", time.Since(l.begun).Seconds(), fmt.Sprintf(format, args...))
}

// figure adds a figure to those of the scenario.
func (l *timeline) figure(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	l.note("%s", text)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.notes = append(l.notes, text)
}

// figures are what the fleet came to.
func (l *timeline) figures() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.now
	all := append([]string(nil), l.notes...)
	all = append(all, fmt.Sprintf("%d of %d requests served, %d of them sent again; longest wait %s; %.0f GPU-seconds",
		m.Served, m.Arrived, m.Retried, m.LongestWait.Round(100*time.Millisecond), m.GPUSeconds))
	return strings.Join(all, "; ")
}

func (l *timeline) present() moment {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now
}

// since are the changes of spec.replicas since then.
func (l *timeline) since(then time.Time) []change {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []change
	for _, c := range l.changes {
		if c.at.After(then) {
			all = append(all, c)
		}
	}
	return all
}

// until waits for a state of the fleet, and returns when it came.
func (l *timeline) until(state string, is func(moment) bool) time.Time {
	l.fleet.Helper()
	begun := time.Now()
	l.fleet.wait(state, func() error {
		if m := l.present(); !is(m) {
			return errors.New("now: " + strings.TrimSpace(l.format(m)))
		}
		return nil
	})
	l.note("%s, after %.1f s", state, time.Since(begun).Seconds())
	return time.Now()
}

// atReplicas waits until the workload has been given n replicas.
func (l *timeline) atReplicas(n int) time.Time {
	l.fleet.Helper()
	return l.until(fmt.Sprintf("%d replicas", n), func(m moment) bool { return m.Replicas == n })
}

// ready waits until n replicas are given and ready.
func (l *timeline) ready(n int) time.Time {
	l.fleet.Helper()
	return l.until(fmt.Sprintf("%d replicas, all ready", n), func(m moment) bool { return m.Replicas == n && m.Ready == n })
}

// never declares what must not happen from now on, until the function that is
// returned is called, or the test ends.
func (l *timeline) never(text string, broken func(moment) bool) (settle func()) {
	r := &rule{text: text, broken: broken}
	l.mu.Lock()
	l.rules = append(l.rules, r)
	l.mu.Unlock()
	settled := false
	settle = func() {
		if settled {
			return
		}
		settled = true
		l.mu.Lock()
		defer l.mu.Unlock()
		r.broken = func(moment) bool { return false }
		if r.found != "" {
			l.fleet.Errorf("%s: never; but %s", r.text, strings.TrimSpace(r.found))
		}
	}
	l.fleet.Cleanup(settle)
	return settle
}

// stays looks for a while whether the replicas stay what they are.
func (l *timeline) stays(n int, d time.Duration) {
	l.fleet.Helper()
	require.Equal(l.fleet, n, l.present().Replicas)
	settle := l.never(fmt.Sprintf("other than %d replicas", n), func(m moment) bool { return m.Replicas != n })
	l.fleet.pause(d)
	settle()
	l.note("%d replicas stayed for %s", n, d)
}

// pause lets time pass in which something must not happen; nothing is waited for.
func (s *scenario) pause(d time.Duration) {
	s.Helper()
	select {
	case <-s.Context().Done():
		s.FailNow()
	case <-time.After(d):
	}
}

// paused returns nil once the scaler says that the fleet is.
func (f *fleet) paused() error {
	body, err := f.explanation()
	if err != nil {
		return err
	}
	var all []struct{ Workload struct{ Paused bool } }
	if err := json.Unmarshal(body, &all); err != nil {
		return err
	}
	if len(all) == 0 || !all[0].Workload.Paused {
		return errors.New("it does not say so")
	}
	return nil
}
