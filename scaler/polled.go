package scaler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	"github.com/inference-scaler/inference-scaler/metricsource"
	"github.com/inference-scaler/inference-scaler/metricsource/prometheus"
	"github.com/inference-scaler/inference-scaler/scaler/decision"
)

const (
	// idleQuestion asks which of the pods that tell no load have had no request yet.
	idleQuestion = "idle"
	// discovery is how long a ready pod may be unknown to Prometheus before that is
	// a fault: twice the interval at which it reads by default.
	discovery = 2 * time.Minute
	// rememberPods is for how long a pod that is gone is known as such: Prometheus'
	// answers may tell of it for as long as its lookback.
	rememberPods = 10 * time.Minute
)

var errNotAsked = errors.New("not asked yet")

// polled is the source of a trigger whose queries a Prometheus answers. What that
// does not find of a pod is missing, as where pods are read: an engine's load has
// an element for each pod that Prometheus reads.
type polled struct {
	live *live
	prom *prometheus.Source
	pod  map[string]*polledPod // by name: the workload's pods, and for a while those that were

	// Of this evaluation:
	answers map[string]prometheus.Answer
	found   map[string]map[string]bool // pods, by signal
	present []cluster.Pod              // that may have work
}

// polledPod is a pod of the workload, and what was found of it last.
type polledPod struct {
	uid     string
	seen    time.Time // in the workload
	missing time.Time // since when it is ready and was never found; zero where it is not
	last    map[string][]metricsource.Element
}

func (l *live) openPolled() source {
	t := l.trigger
	return &polled{live: l, pod: map[string]*polledPod{}, prom: l.scaler.opts.Prometheus.OpenSource(prometheus.SourceConfig{
		Address:     t.Prometheus.Address,
		Interval:    t.Interval,
		Timeout:     l.timeout(),
		Permit:      l.permitUpstream,
		Credentials: l.credentials.For(func(at *url.URL) *url.URL { return at }),
		OnAnswer:    func() { l.scaler.wake(l, 0) },
	})}
}

func (p *polled) close() { p.prom.Close() }

func (p *polled) follow(gone bool) {
	if gone {
		p.prom.Ask(nil)
	}
}

// pods looks at what Prometheus has answered, and has it asked of the pods there are now.
func (p *polled) pods(now time.Time) (all []decision.Pod, tried bool) {
	p.look(now)
	var names, missing []string
	for _, pod := range p.present {
		names = append(names, pod.Name)
		there, before := p.there(pod.Name)
		if !there {
			missing = append(missing, pod.Name)
			if pod.Terminating {
				continue // and silent: it is gone
			}
		}
		all = append(all, p.state(pod, there, before, now))
	}
	p.inquire(names, missing)
	tried = true
	for _, q := range p.live.queries() {
		_, answered := p.answers[q.signal]
		tried = tried && (answered || len(names) == 0 && !p.independent(q.query))
	}
	return all, tried
}

// look takes what is known now, and keeps the memory of the pods up to date.
func (p *polled) look(now time.Time) {
	p.answers, p.found, p.present = p.prom.Answers(), map[string]map[string]bool{}, nil
	for signal, a := range p.answers {
		p.found[signal] = map[string]bool{}
		for _, e := range a.Result.Elements {
			p.found[signal][e.Pod] = true
		}
	}
	if w := p.live.workload; w != nil {
		for _, pod := range w.Pods {
			if pod.Finished() {
				continue
			}
			p.present = append(p.present, pod)
			if k := p.pod[pod.Name]; k == nil || k.uid != pod.UID {
				p.pod[pod.Name] = &polledPod{uid: pod.UID, last: map[string][]metricsource.Element{}}
			}
			p.pod[pod.Name].seen = now
		}
	}
	maps.DeleteFunc(p.pod, func(_ string, k *polledPod) bool { return now.Sub(k.seen) > rememberPods })
}

func (p *polled) independent(q *metricsource.Query) bool {
	return p.live.trigger.Prometheus.Independent(q)
}

// there reports whether each of the queries that make the pod's load, or its work
// in flight, finds the pod now; and whether each has.
func (p *polled) there(name string) (now, before bool) {
	now, before = true, true
	for _, q := range p.live.queries() {
		if (q.signal == "load" || q.signal == "inFlight") && !p.independent(q.query) {
			now = now && p.found[q.signal][name]
			before = before && len(p.pod[name].last[q.signal]) > 0
		}
	}
	return now, before
}

// state says how far the answers speak for a pod.
func (p *polled) state(pod cluster.Pod, there, before bool, now time.Time) decision.Pod {
	d := decision.Pod{Name: pod.Name, Ready: pod.Ready && !pod.Terminating}
	k := p.pod[pod.Name]
	answered, err := p.fresh("load", now)
	if before && !answered.IsZero() {
		d.Age = max(0, now.Sub(answered))
	}
	idle := p.found[idleQuestion][pod.Name]
	if there || idle || err != nil || !d.Ready {
		k.missing = time.Time{}
	} else if k.missing.IsZero() {
		k.missing = now
	}
	switch {
	case err != nil && before && !answered.IsZero():
		d.State = decision.Silent
	case err == nil && there:
		d.State = decision.Answering
	case err == nil && idle:
		d.State = decision.Idle
	case err == nil && before:
		d.State, d.Fault = decision.Silent, "Prometheus has no fresh series of it any more"
	case !d.Ready:
		d.State = decision.Starting
	default:
		d.State = decision.Unread
		if err == nil && now.Sub(k.missing) >= discovery {
			d.Fault = fmt.Sprintf("ready for %s, and Prometheus has no series of it: is it read there, with the labels namespace and pod?", discovery)
		}
	}
	if p.independent(p.live.trigger.Load) && p.independent(p.live.trigger.InFlight) && !d.Ready && d.State == decision.Answering {
		d.State = decision.Starting // the answer says nothing of it
	}
	return d
}

// fresh says when a question was answered last, and why that does not stand any more.
func (p *polled) fresh(signal string, now time.Time) (time.Time, error) {
	a, asked := p.answers[signal]
	switch {
	case !asked:
		return time.Time{}, errNotAsked
	case a.Answered.IsZero():
		return time.Time{}, a.Err
	case a.Err != nil && now.Sub(a.Answered) > p.live.trigger.StaleAfter:
		return a.Answered, a.Err
	}
	return a.Answered, nil
}

// inquire has the queries asked: an engine's of the pods of these names, and
// whether the missing ones are idle.
func (p *polled) inquire(names, missing []string) {
	var questions []prometheus.Question
	for _, q := range p.live.queries() {
		if p.independent(q.query) {
			questions = append(questions, prometheus.Question{Name: q.signal, PromQL: q.query.String()})
		} else if len(names) > 0 {
			questions = append(questions, prometheus.Question{Name: q.signal, PromQL: q.query.OfPods(p.live.namespace, names)})
		}
	}
	if idle := p.live.trigger.Prometheus.Idle; idle != nil && len(missing) > 0 {
		questions = append(questions, prometheus.Question{Name: idleQuestion, PromQL: idle.OfPods(p.live.namespace, missing)})
	}
	p.prom.Ask(questions)
}

// ask answers a query with Prometheus' last word on it.
func (p *polled) ask(_ context.Context, signal string, q *metricsource.Query, at time.Time) (metricsource.Result, decision.Reading) {
	if _, err := p.fresh(signal, at); err != nil {
		if errors.Is(err, errNotAsked) {
			return metricsource.Result{}, decision.Reading{Asked: true}
		}
		r := reading(metricsource.Result{}, err, podOf)
		r.Independent = p.independent(q)
		return metricsource.Result{}, r
	}
	result := p.attributed(signal, q)
	r := reading(result, nil, podOf)
	r.Independent = p.independent(q)
	return result, r
}

// attributed gives each element to the pod that it is of. What is found of a pod
// that is not the workload's is of the fleet as a whole, unless it was the
// workload's; what is not found any more of one that is there stands as it was.
func (p *polled) attributed(signal string, q *metricsource.Query) metricsource.Result {
	result := p.answers[signal].Result
	out := metricsource.Result{Warnings: result.Warnings}
	present, byPod := map[string]bool{}, map[string][]metricsource.Element{}
	for _, pod := range p.present {
		present[pod.Name] = true
	}
	for _, e := range result.Elements {
		switch {
		case present[e.Pod]:
			byPod[e.Pod] = append(byPod[e.Pod], e)
		case e.Pod == "":
		case p.pod[e.Pod] != nil || !p.independent(q):
			continue
		default:
			e.Pod = ""
		}
		out.Elements = append(out.Elements, e)
	}
	if p.independent(q) {
		return out
	}
	for _, pod := range p.present {
		k := p.pod[pod.Name]
		if of := byPod[pod.Name]; len(of) > 0 {
			k.last[signal] = of
		} else if !pod.Terminating {
			out.Elements = append(out.Elements, k.last[signal]...)
		}
	}
	return out
}
