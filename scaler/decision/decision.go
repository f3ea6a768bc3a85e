package decision

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/inference-scaler/inference-scaler/scaler/hpa"
)

// MaxReplicas is the upper limit of every decision.
const MaxReplicas = 100_000

// Decision is the metric value for KEDA, with its reasons. It is immutable.
type Decision struct {
	At time.Time
	// Replicas is Value / Target, rounded up, computed as the HPA does: in thousandths.
	Value, Target float64
	Replicas      int
	// DemandReplicas is the number of replicas before the capacity rule. Limited: the
	// capacity rule reduced it.
	DemandReplicas int
	Limited        bool
	// Demand is the measured load before any other rule; NaN if nothing was measured.
	Demand   float64
	InFlight float64 // NaN if unknown
	Active   bool
	// ActiveWhy says why the workload is active or not.
	ActiveWhy string
	Steps     []Step
	Faults    []Fault
	Input     Input
	// Until is when the decision changes without new evidence; zero if never.
	Until time.Time
}

// Fault is a problem that an operator should look at.
type Fault struct {
	Kind FaultKind
	Text string
}

// FaultKind is the class of a Fault. It is a metric label and the reason of an event.
type FaultKind string

// The kinds of faults.
const (
	PodUnread  FaultKind = "PodUnread"  // a ready pod has never responded
	PodSilent  FaultKind = "PodSilent"  // a pod has stopped responding
	NoSeries   FaultKind = "NoSeries"   // a pod responds without series that its engine should export
	BadValue   FaultKind = "BadValue"   // a value is infinite or negative
	QueryFault FaultKind = "QueryFault" // a query failed or returned nothing
	// UpstreamFault: the upstream cannot be read.
	UpstreamFault FaultKind = "UpstreamFault"
	// LeaderFault: the leader is unknown.
	LeaderFault FaultKind = "LeaderFault"
)

// FaultKinds lists all kinds.
var FaultKinds = []FaultKind{PodUnread, PodSilent, NoSeries, BadValue, QueryFault, UpstreamFault, LeaderFault}

// Step is the effect of one rule.
type Step struct {
	Rule          string
	Before, After Amount
	Why           string
}

// Amount is a load, and the replicas that it needs.
type Amount struct {
	Value    float64
	Replicas int
}

// Decide applies the rules in their order. It returns the Memory for the next decision.
func Decide(in Input, memory Memory) (Decision, Memory) {
	memory.Peaks = slices.Clone(memory.Peaks)
	memory.Ready = slices.Clone(memory.Ready)
	d := &deciding{
		in:     in,
		memory: memory,
		out: Decision{
			At:     in.Now,
			Target: in.Policy.Target,
			Demand: math.NaN(),
			Input:  in,
		},
	}
	if !in.Leader.Exclusive {
		d.ownLoad()
	}
	d.follow()
	d.capacity()
	d.quantise()
	d.active()
	return d.out, d.memory
}

// ownLoad applies the rules of a workload that has a load of its own.
func (d *deciding) ownLoad() {
	d.load()
	d.upstream()
	d.absent()
	d.saturation()
	d.latency()
	if !d.fellBack {
		d.memory.HasLast, d.memory.Last = true, d.value
	}
	d.hold()
}

// deciding is the state of a decision in progress.
type deciding struct {
	in     Input
	memory Memory
	out    Decision
	value  float64 // the result so far, in units of load

	loads     map[string]float64 // by pod
	fleetWide float64
	measured  float64 // the measured part of value, without additions for missing data
	unknown   int     // pods in an unknown state
	fellBack  bool    // the load is unknown

	demand          float64 // the upstream demand
	upstreamAdded   float64 // the part of demand that was added to the load
	arrived         float64 // requests that arrived upstream within arrivalExpiry
	upstreamUnknown string  // why the upstream demand is unknown; empty if it is known
}

// replicas returns the replicas that the HPA computes for a load, without tolerance and
// behavior.
func replicas(value, target float64) int {
	return hpa.MetricOf(min(value, MaxReplicas*target), target).Ceil()
}

// amount returns a load with the replicas that it needs.
func (d *deciding) amount(value float64) Amount {
	return Amount{Value: value, Replicas: replicas(value, d.in.Policy.Target)}
}

// Rules lists the names of the rules that record steps, in their order.
var Rules = []string{"load", "upstream", "absent", "saturation", "latency", "hold", "follow", "bound", "capacity"}

// step sets the result of a rule, and records it.
func (d *deciding) step(rule string, value float64, format string, args ...any) {
	before := d.amount(d.value)
	d.value = value
	d.out.Steps = append(d.out.Steps, Step{Rule: rule, Before: before, After: d.amount(value), Why: fmt.Sprintf(format, args...)})
}

// note records a reason without a change of the value.
func (d *deciding) note(rule, format string, args ...any) { d.step(rule, d.value, format, args...) }

func (d *deciding) fault(kind FaultKind, format string, args ...any) {
	d.out.Faults = append(d.out.Faults, Fault{Kind: kind, Text: fmt.Sprintf(format, args...)})
}

// until records that the decision changes at that time without new evidence.
func (d *deciding) until(at time.Time) {
	if d.out.Until.IsZero() || at.Before(d.out.Until) {
		d.out.Until = at
	}
}

// holdGrain is the number of intervals that a hold is divided into. Only the largest value
// of each interval is stored.
const holdGrain = 128

// hold (rule 4) keeps the largest value of the last Policy.Hold, so that the HPA does not
// miss a burst between two of its syncs, which are 15 s apart. Additions for missing data
// are not stored: they end when the data is back.
func (d *deciding) hold() {
	now, length := d.in.Now, d.in.Policy.Hold
	if length <= 0 {
		d.memory.Peaks = nil
		return
	}
	grain := length/holdGrain + 1
	end := now.Truncate(grain).Add(grain) // rounded up: a peak never expires too early
	peaks := d.memory.Peaks
	for len(peaks) > 0 && (!peaks[0].At.Add(length).After(now) || peaks[0].At.After(end)) {
		peaks = peaks[1:] // expired, or in the future because the clock was set back
	}
	own := d.value
	if len(peaks) > 0 && peaks[0].Value > own {
		ends := peaks[0].At.Add(length)
		d.until(ends)
		d.step("hold", peaks[0].Value, "the largest value of the last %s is kept for another %s",
			length, ends.Sub(now).Round(100*time.Millisecond))
	}
	if d.fellBack || d.in.Filling {
		d.memory.Peaks = peaks
		return
	}
	if d.unknown > 0 {
		own = d.measured
	}
	for len(peaks) > 0 && peaks[len(peaks)-1].Value <= own {
		peaks = peaks[:len(peaks)-1]
	}
	if len(peaks) == 0 || peaks[len(peaks)-1].At.Before(end) {
		peaks = append(peaks, Peak{At: end, Value: own})
	}
	d.memory.Peaks = peaks
}

// quantise (rule 7) rounds the value to thousandths, which KEDA and the HPA pass on
// unchanged, and limits it to MaxReplicas.
func (d *deciding) quantise() {
	most := float64(MaxReplicas) * d.in.Policy.Target
	if d.value > most {
		d.step("bound", most, "the maximum is %d replicas", MaxReplicas)
	}
	d.out.Value = float64(hpa.Milli(d.value)) / 1000
	d.out.Replicas = replicas(d.out.Value, d.out.Target)
}

// active decides whether KEDA may scale the workload to zero: not while work is in flight,
// and not while that is unknown.
func (d *deciding) active() {
	before := d.memory
	d.out.InFlight = math.NaN()
	d.out.Active, d.out.ActiveWhy = d.activity(before)
	d.memory.Decided, d.memory.Active, d.memory.Replicas = true, d.out.Active, d.in.Replicas
}

func (d *deciding) activity(before Memory) (bool, string) {
	if d.in.Leader.Configured {
		return true, "follows " + d.in.Leader.Name + "; a follower is always active"
	}
	wakes, because := d.upstreamActive()
	if d.in.Replicas == 0 {
		d.memory.Waking = false
		return d.activityAtZero(wakes, because)
	}
	d.memory.Waking = d.waking()
	inFlight, why := d.inFlight()
	if why == "" && d.anyReadyPodReports() && d.upstreamUnknown == "" {
		d.out.InFlight = inFlight
	}
	if wakes {
		return true, because
	}
	if why != "" {
		return true, why
	}
	if !d.anyReadyPodReports() && before.Active && !d.in.InFlight.Independent {
		// Its pods are being replaced, or they terminate before spec.replicas is seen to be
		// 0. The remaining pods are no evidence for either.
		return true, "no ready pod reports its work in flight; active as before"
	}
	if d.upstreamUnknown != "" {
		return true, "the upstream demand is unknown: " + d.upstreamUnknown
	}
	return d.compareWithActivation(inFlight)
}

// compareWithActivation compares the known work in flight with the activation.
func (d *deciding) compareWithActivation(inFlight float64) (bool, string) {
	d.out.InFlight = inFlight
	active, comparison := inFlight > d.in.Policy.Activation, "not above"
	if active {
		comparison = "above"
	}
	return active, fmt.Sprintf("%s in flight, %s the activation of %s", number(inFlight), comparison, number(d.in.Policy.Activation))
}

// activityAtZero decides whether the workload leaves zero replicas. Upstream demand and the
// result of an independent query are reasons to do so. A late request on a terminating pod
// is not a reason, nor is unknown demand.
func (d *deciding) activityAtZero(wakes bool, because string) (bool, string) {
	if d.in.Upstream.Configured && d.upstreamUnknown == "" {
		d.out.InFlight = d.demand
	}
	if wakes {
		return true, because
	}
	if !d.in.InFlight.Independent {
		return false, d.atZeroReason()
	}
	inFlight, why := d.inFlight()
	active := false
	if why == "" {
		active, why = d.compareWithActivation(inFlight)
	}
	if !active {
		why = "at zero replicas; " + why
	}
	return active, why
}

// waking reports whether no ready pod has reported its work since the workload left zero
// replicas, or since this scaler first saw it.
func (d *deciding) waking() bool {
	return !d.anyReadyPodReports() && (d.memory.Waking || !d.memory.Decided || d.memory.Replicas == 0)
}

// inFlight sums the work in flight on pods and upstream. The second result says why it is
// unknown; empty if it is known.
func (d *deciding) inFlight() (float64, string) {
	r := d.in.InFlight
	switch {
	case !r.Configured:
		return 0, "the engine does not report its work in flight; set inflightQuery to allow zero replicas"
	case r.Err != "":
		return 0, "the work in flight is unknown: " + r.Err
	case d.in.Filling:
		return 0, "the work in flight is unknown until the sample window is full"
	case r.Independent && len(r.Values) == 0:
		return 0, "the query for the work in flight returned nothing"
	case r.Independent:
	case d.unknown > 0:
		return 0, fmt.Sprintf("the work in flight is unknown on %s", pods(d.unknown))
	case d.memory.Waking:
		return 0, "no ready pod has reported its work in flight yet"
	case len(r.Values) == 0 && !r.FromUpstream && d.anyPod(func(s State) bool { return s == Answering }):
		return 0, "the query for the work in flight returned nothing"
	}
	sum := 0.0
	for _, v := range r.Values {
		if !finite(v.Value) {
			return 0, fmt.Sprintf("the work in flight is invalid: %v", v.Value)
		}
		sum += v.Value
	}
	if d.in.Upstream.InFlight {
		return max(sum, d.demand), ""
	}
	return sum + d.upstreamAdded, ""
}

// anyReadyPodReports reports whether a ready pod has current samples. Other pods get no work.
func (d *deciding) anyReadyPodReports() bool {
	return slices.ContainsFunc(d.in.Pods, func(p Pod) bool { return p.Ready && p.State.current() })
}

func (d *deciding) anyPod(is func(State) bool) bool {
	for _, p := range d.in.Pods {
		if is(p.State) {
			return true
		}
	}
	return false
}

// finite reports whether v is a valid measurement: not NaN, not infinite, not negative.
func finite(v float64) bool { return v >= 0 && !math.IsInf(v, 0) }

func number(v float64) string { return fmt.Sprintf("%.6g", v) }

func pods(n int) string {
	if n == 1 {
		return "1 pod"
	}
	return fmt.Sprintf("%d pods", n)
}
