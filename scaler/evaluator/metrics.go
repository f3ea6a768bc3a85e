package evaluator

import (
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/inference-scaler/inference-scaler/scaler/decision"
)

// metrics are the evaluator's own. Those of triggers are read from their present
// answers at each scrape; a trigger that is closed leaves none behind.
type metrics struct {
	evaluator   *Evaluator
	evaluations prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, e *Evaluator) *metrics {
	m := &metrics{evaluator: e}
	f := promauto.With(reg)
	m.evaluations = f.NewHistogram(prometheus.HistogramOpts{
		Name:    "inference_scaler_evaluation_duration_seconds",
		Help:    "Time that one evaluation of a trigger took.",
		Buckets: prometheus.ExponentialBuckets(0.00005, 4, 8),
	})
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "inference_scaler_triggers",
		Help: "Open triggers.",
	}, func() float64 { return float64(len(e.triggers.all())) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "inference_scaler_streams",
		Help: "Streams that are open, of both kinds.",
	}, func() float64 {
		n := 0
		for _, t := range e.triggers.all() {
			n += t.streams.count()
		}
		return float64(n)
	})
	if reg != nil {
		reg.MustRegister(m)
	}
	return m
}

var triggerLabels = []string{"namespace", "scaledobject", "trigger"}

func desc(name, help string, more ...string) *prometheus.Desc {
	return prometheus.NewDesc("inference_scaler_trigger_"+name, help, append(triggerLabels[:len(triggerLabels):len(triggerLabels)], more...), nil)
}

var (
	valueDesc    = desc("value", "The value that KEDA is given.")
	targetDesc   = desc("target", "The load that one replica should carry.")
	replicasDesc = desc("decided_replicas", "The replicas that value over target come to.")
	demandedDesc = desc("demand_replicas", "The replicas that are asked for before capacity is looked at.")
	capacityDesc = desc("capacity_replicas", "The replicas that the GPUs can hold. Absent while that is not known, or not looked at.")
	limitedDesc  = desc("capacity_limited", "1 while the GPUs can hold fewer replicas than are asked for, and fewer are decided on.")
	currentDesc  = desc("current_replicas", "The replicas that the workload has been given.")
	demandDesc   = desc("demand", "The load as measured, before any rule. Absent while it is not known.")
	inFlightDesc = desc("in_flight", "Work waiting and running. Absent while it is not known.")
	activeDesc   = desc("active", "1 while the workload must not sleep.")
	ageDesc      = desc("data_age_seconds", "Time since the pod that has been silent for longest answered. Absent before any did.")
	faultsDesc   = desc("faults", "Faults of the present decision.", "kind")
	errorDesc    = desc("undecided", "1 while no decision can be made: the last one applies, if there was one.")
	stepsDesc    = desc("step_replicas", "What a rule of the present decision added to the replicas, or took from them; together they are what is decided.", "rule")
	podsDesc     = desc("pods", "Pods by what is known of them.", "state")
)

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		valueDesc, targetDesc, replicasDesc, demandedDesc, capacityDesc, limitedDesc, currentDesc, demandDesc, inFlightDesc, activeDesc, ageDesc, faultsDesc, errorDesc, stepsDesc, podsDesc,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	now := time.Now()
	for _, t := range m.evaluator.triggers.all() {
		t.collect(ch, t.answer.Load(), now)
	}
}

func (t *Trigger) collect(ch chan<- prometheus.Metric, a *Answer, now time.Time) {
	gauge := func(d *prometheus.Desc, v float64, more ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{t.object.Namespace, t.object.Name, t.label}, more...)...)
	}
	ifKnown := func(d *prometheus.Desc, v float64) {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			gauge(d, v)
		}
	}
	gauge(targetDesc, t.spec.Target)
	gauge(errorDesc, bit(a.Err != nil))
	if a.Decision == nil {
		return
	}
	d := a.Decision
	gauge(valueDesc, d.Value)
	gauge(replicasDesc, float64(d.Replicas))
	gauge(demandedDesc, float64(d.DemandReplicas))
	gauge(limitedDesc, bit(d.Limited))
	if c := d.Input.Capacity; c.Applies && c.Err == "" {
		gauge(capacityDesc, float64(c.Replicas))
	}
	gauge(currentDesc, float64(d.Input.Replicas))
	gauge(activeDesc, bit(d.Active))
	ifKnown(demandDesc, d.Demand)
	ifKnown(inFlightDesc, d.InFlight)

	steps := map[string]int{}
	for _, step := range d.Steps {
		steps[step.Rule] += step.After.Replicas - step.Before.Replicas
	}
	for _, rule := range decision.Rules {
		gauge(stepsDesc, float64(steps[rule]), rule)
	}
	faults := map[decision.FaultKind]int{}
	for _, f := range d.Faults {
		faults[f.Kind]++
	}
	for _, kind := range decision.FaultKinds {
		gauge(faultsDesc, float64(faults[kind]), string(kind))
	}
	states := map[decision.State]int{}
	oldest := time.Duration(-1)
	for _, p := range d.Input.Pods {
		states[p.State]++
		if p.State != decision.Starting && p.State != decision.Unread {
			oldest = max(oldest, p.Age+now.Sub(d.At))
		}
	}
	for _, state := range decision.States() {
		gauge(podsDesc, float64(states[state]), state.String())
	}
	if oldest >= 0 {
		gauge(ageDesc, oldest.Seconds())
	}
}

func bit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
