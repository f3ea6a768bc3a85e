package decision

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/inference-scaler/inference-scaler/scaler/hpa"
)

// MaxReplicas bounds what is ever asked for.
const MaxReplicas = 100_000

// Decision is what KEDA is told, and why. It is immutable.
type Decision struct {
	At time.Time
	// Value over Target, rounded up, are the Replicas, in the HPA's own
	// arithmetic of thousandths.
	Value, Target float64
	Replicas      int
	// Demanded are the replicas that were asked for before capacity was looked at, and
	// Limited whether that made them less.
	Demanded int
	Limited  bool
	// Demand is the load that was measured, before any rule changed it; NaN
	// where nothing was.
	Demand   float64
	InFlight float64 // NaN where it is not known
	Active   bool
	// ActiveWhy says what made the workload active or not.
	ActiveWhy string
	Steps     []Step
	Faults    []Fault
	Input     Input
	// Until is when the decision would change though nothing new was learned;
	// zero if never.
	Until time.Time
}

// Fault is something that should not be, and that somebody should look at.
type Fault struct {
	Kind FaultKind
	Text string
}

// FaultKind is the class of a Fault: few, for a metric's label and an event's reason.
type FaultKind string

// The kinds of faults.
const (
	PodUnread  FaultKind = "PodUnread"  // a ready pod has never answered
	PodSilent  FaultKind = "PodSilent"  // a pod does not answer any more
	NoSeries   FaultKind = "NoSeries"   // a pod answers, without what its engine should export
	BadValue   FaultKind = "BadValue"   // a value that is no measurement
	QueryFault FaultKind = "QueryFault" // a query failed, or found nothing
	// UpstreamFault: what shows demand before it reaches a pod cannot be read.
	UpstreamFault FaultKind = "UpstreamFault"
	// LeaderFault: nothing is known of the workload that this one follows.
	LeaderFault FaultKind = "LeaderFault"
)

// FaultKinds are all there are.
var FaultKinds = []FaultKind{PodUnread, PodSilent, NoSeries, BadValue, QueryFault, UpstreamFault, LeaderFault}

// Step is what one rule made of the number.
type Step struct {
	Rule          string
	Before, After Amount
	Why           string
}

// Amount is a number between two rules: a load, and the replicas it asks for.
type Amount struct {
	Value    float64
	Replicas int
}

// Decide applies the rules, in their order, to what is known.
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
	if !in.Leader.Alone {
		d.ownLoad()
	}
	d.follow()
	d.capacity()
	d.quantise()
	d.active()
	return d.out, d.memory
}

// ownLoad applies the rules of a workload that has one.
func (d *deciding) ownLoad() {
	d.load()
	d.join()
	d.absent()
	d.saturation()
	d.latency()
	if !d.assumed {
		d.memory.Known, d.memory.Last = true, d.value
	}
	d.hold()
}

// deciding is a decision in the making.
type deciding struct {
	in     Input
	memory Memory
	out    Decision
	value  float64 // the answer so far, in load

	loads     map[string]float64 // by pod
	fleetWide float64
	measured  float64 // of value, what was not made up for anything missing
	unknown   int     // pods that may carry more than their samples show
	assumed   bool    // nothing at all is known of the load

	demand          float64 // that shows upstream
	joined          float64 // of it, what was added to the load
	arrived         float64 // requests upstream, within arrivalStands
	upstreamUnknown string  // why there may be more upstream than is known
}

// replicas is what the HPA makes of a load, without tolerance and behavior.
func replicas(value, target float64) int {
	return hpa.MetricOf(min(value, MaxReplicas*target), target).Ceil()
}

// amount is the load, with the replicas that it asks for.
func (d *deciding) amount(value float64) Amount {
	return Amount{Value: value, Replicas: replicas(value, d.in.Policy.Target)}
}

// Rules are the names of all rules that leave a step, in their order.
var Rules = []string{"load", "upstream", "absent", "saturation", "latency", "hold", "follow", "bound", "capacity"}

// step takes a rule's outcome as the answer so far.
func (d *deciding) step(rule string, value float64, format string, args ...any) {
	before := d.amount(d.value)
	d.value = value
	d.out.Steps = append(d.out.Steps, Step{Rule: rule, Before: before, After: d.amount(value), Why: fmt.Sprintf(format, args...)})
}

// note records what a rule saw and left the number as it was for.
func (d *deciding) note(rule, format string, args ...any) { d.step(rule, d.value, format, args...) }

func (d *deciding) fault(kind FaultKind, format string, args ...any) {
	d.out.Faults = append(d.out.Faults, Fault{Kind: kind, Text: fmt.Sprintf(format, args...)})
}

// until notes that the decision would change at that moment, with nothing learned.
func (d *deciding) until(at time.Time) {
	if d.out.Until.IsZero() || at.Before(d.out.Until) {
		d.out.Until = at
	}
}

// holdGrain is into how many parts a hold is divided: answers in one part are
// remembered as the largest of them.
const holdGrain = 128

// hold (rule 4) lets the largest answer of the last while stand, so that a burst
// between two syncs of the HPA is not missed. What only makes up for what is
// missing is not remembered: it has had its say when that is there again.
func (d *deciding) hold() {
	now, length := d.in.Now, d.in.Policy.Hold
	if length <= 0 {
		d.memory.Peaks = nil
		return
	}
	grain := length/holdGrain + 1
	end := now.Truncate(grain).Add(grain) // of the part that now is in: never too early
	peaks := d.memory.Peaks
	for len(peaks) > 0 && (!peaks[0].At.Add(length).After(now) || peaks[0].At.After(end)) {
		peaks = peaks[1:] // too old, or of a clock that has gone back since
	}
	own := d.value
	if len(peaks) > 0 && peaks[0].Value > own {
		ends := peaks[0].At.Add(length)
		d.until(ends)
		d.step("hold", peaks[0].Value, "the largest answer of the last %s stands for another %s",
			length, ends.Sub(now).Round(100*time.Millisecond))
	}
	if d.assumed || d.in.Filling {
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

// quantise (rule 7) makes the number one that KEDA and the HPA carry unchanged:
// thousandths, not above MaxReplicas.
func (d *deciding) quantise() {
	most := float64(MaxReplicas) * d.in.Policy.Target
	if d.value > most {
		d.step("bound", most, "more than %d replicas are never asked for", MaxReplicas)
	}
	d.out.Value = float64(hpa.Milli(d.value)) / 1000
	d.out.Replicas = replicas(d.out.Value, d.out.Target)
}

// active says whether the workload may sleep: not while work is in flight, and
// not while that is unknown.
func (d *deciding) active() {
	before := d.memory
	d.out.InFlight = math.NaN()
	d.out.Active, d.out.ActiveWhy = d.activity(before)
	d.memory.Decided, d.memory.Active, d.memory.Replicas = true, d.out.Active, d.in.Replicas
}

func (d *deciding) activity(before Memory) (bool, string) {
	if d.in.Leader.Asked {
		return true, "it follows " + d.in.Leader.Name + ", and a follower is always active"
	}
	wakes, because := d.wakes()
	if d.in.Replicas == 0 {
		d.memory.Waking = false
		return d.activityAtZero(wakes, because)
	}
	d.memory.Waking = d.waking()
	inFlight, why := d.inFlight()
	if why == "" && d.anySaid() && d.upstreamUnknown == "" {
		d.out.InFlight = inFlight
	}
	if wakes {
		return true, because
	}
	if why != "" {
		return true, why
	}
	if !d.anySaid() && before.Active && !d.in.InFlight.Independent {
		// Its pods are being replaced, or are going before its replicas are known
		// to be 0: what is left of them cannot speak for it, either way.
		return true, "no ready pod tells of its work; active as before"
	}
	if d.upstreamUnknown != "" {
		return true, "the demand upstream is unknown: " + d.upstreamUnknown
	}
	return d.weigh(inFlight)
}

// weigh compares the work in flight, now that it is known, with the activation.
func (d *deciding) weigh(inFlight float64) (bool, string) {
	d.out.InFlight = inFlight
	active, comparison := inFlight > d.in.Policy.Activation, "not above"
	if active {
		comparison = "above"
	}
	return active, fmt.Sprintf("%s in flight, %s the activation of %s", number(inFlight), comparison, number(d.in.Policy.Activation))
}

// activityAtZero: what shows upstream is a reason to wake, and what a query
// answered from more than the pods' samples finds. A late request on a draining
// pod is none, and neither is not knowing.
func (d *deciding) activityAtZero(wakes bool, because string) (bool, string) {
	if d.in.Upstream.Asked && d.upstreamUnknown == "" {
		d.out.InFlight = d.demand
	}
	if wakes {
		return true, because
	}
	if !d.in.InFlight.Independent {
		return false, d.asleep()
	}
	inFlight, why := d.inFlight()
	active := false
	if why == "" {
		active, why = d.weigh(inFlight)
	}
	if !active {
		why = "asleep at zero replicas; " + why
	}
	return active, why
}

// waking reports whether, since the workload left zero replicas or since this
// scaler first saw it, no ready pod has told of its work.
func (d *deciding) waking() bool {
	return !d.anySaid() && (d.memory.Waking || !d.memory.Decided || d.memory.Replicas == 0)
}

// inFlight sums the work in flight, upstream too; the second result says why it is not known.
func (d *deciding) inFlight() (float64, string) {
	r := d.in.InFlight
	switch {
	case !r.Asked:
		return 0, "the engine does not say what is in flight: set inflightQuery to let it sleep"
	case r.Err != "":
		return 0, "the work in flight is unknown: " + r.Err
	case d.in.Filling:
		return 0, "the work in flight is not known before the window of the samples is full"
	case r.Independent && len(r.Values) == 0:
		return 0, "the query for the work in flight found nothing"
	case r.Independent:
	case d.unknown > 0:
		return 0, fmt.Sprintf("the work in flight is unknown on %s", pods(d.unknown))
	case d.memory.Waking:
		return 0, "no ready pod has told of its work yet"
	case len(r.Values) == 0 && !r.Elsewhere && d.anyPod(func(s State) bool { return s == Answering }):
		return 0, "the query for the work in flight found nothing"
	}
	sum := 0.0
	for _, v := range r.Values {
		if !finite(v.Value) {
			return 0, fmt.Sprintf("the work in flight is %v", v.Value)
		}
		sum += v.Value
	}
	if d.in.Upstream.InFlight {
		return max(sum, d.demand), ""
	}
	return sum + d.joined, ""
}

// anySaid reports whether a pod that could have work has told of it. One that is
// not ready could not, and one that is terminating gets no more.
func (d *deciding) anySaid() bool {
	return slices.ContainsFunc(d.in.Pods, func(p Pod) bool { return p.Ready && p.State.answers() })
}

func (d *deciding) anyPod(is func(State) bool) bool {
	for _, p := range d.in.Pods {
		if is(p.State) {
			return true
		}
	}
	return false
}

// finite reports whether v is a measurement: not NaN, not infinite, not negative.
func finite(v float64) bool { return v >= 0 && !math.IsInf(v, 0) }

func number(v float64) string { return fmt.Sprintf("%.6g", v) }

func pods(n int) string {
	if n == 1 {
		return "1 pod"
	}
	return fmt.Sprintf("%d pods", n)
}
