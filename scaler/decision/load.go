package decision

import (
	"math"
	"strings"
)

// load (rule 1) is the sum of what the pods report, and of what belongs to none
// of them. What is no measurement is left out here; rule 2 makes up for it.
func (d *deciding) load() {
	d.loads = map[string]float64{}
	sum, nans := 0.0, 0
	for _, v := range d.in.Load.Values {
		switch {
		case math.IsNaN(v.Value):
			nans++ // a quantile or a mean without traffic
		case !finite(v.Value):
			d.fault(BadValue, "the load is %v%s: no measurement", v.Value, ofPod(v.Pod))
			d.distrust(v.Pod)
		case v.Pod != "":
			d.loads[v.Pod] += v.Value
			sum += v.Value
		default:
			d.fleetWide += v.Value
			sum += v.Value
		}
	}
	if len(d.in.Load.Values) > 0 || d.anyPod(State.answers) {
		d.out.Demand = sum
	}
	d.step("load", sum, "%s", d.loadWhy(sum))
	if nans > 0 {
		d.note("load", "NaN asks for nothing: there was no traffic to measure")
	}
}

func (d *deciding) loadWhy(sum float64) string {
	reporting := len(d.loads)
	switch {
	case reporting > 0 && d.fleetWide > 0:
		return number(sum-d.fleetWide) + " on " + pods(reporting) + " and " + number(d.fleetWide) + " of the fleet as a whole"
	case reporting > 0:
		return number(sum) + " on " + pods(reporting)
	default:
		return number(sum) + " of the fleet as a whole"
	}
}

// distrust makes a pod (or, without a name, all of them) one whose load is not
// known, without touching the caller's input.
func (d *deciding) distrust(pod string) {
	changed := make([]Pod, len(d.in.Pods))
	copy(changed, d.in.Pods)
	for i := range changed {
		if (pod == "" || changed[i].Name == pod) && changed[i].State.answers() {
			changed[i].State, changed[i].Fault = Faulty, "its load is no measurement"
		}
	}
	d.in.Pods = changed
}

// absent (rule 2) makes up for what is missing, as far as the answer would fall
// for it: a pod that does not tell its load carries at least the target. It never
// asks for more than the workload has for that.
func (d *deciding) absent() {
	d.measured = d.value
	for _, p := range d.in.Pods {
		if p.State.unknown() {
			d.unknown++
		}
	}
	d.podFaults(d.in.Pods, Unread, PodUnread)
	d.podFaults(d.in.Pods, Silent, PodSilent)
	d.podFaults(d.in.Pods, Faulty, NoSeries)
	if why := d.blind(); why != "" {
		d.assume(why)
		return
	}
	d.completeFleetWide()
	d.makeUp()
	d.stand()
}

// stand keeps the replicas there are while what the load should hold has not been
// seen yet, by a scaler that has just started.
func (d *deciding) stand() {
	present := float64(d.in.Replicas) * d.in.Policy.Target
	if present <= d.value {
		return
	}
	switch {
	case d.in.Filling:
		d.step("absent", present, "the window of the samples is still filling; the %d replicas there are stand", d.in.Replicas)
	case d.upstreamUnknown != "" && !d.memory.Upstream:
		d.step("absent", present, "the demand upstream is unknown (%s); the %d replicas there are stand", d.upstreamUnknown, d.in.Replicas)
	case d.upstreamUnknown != "" && d.memory.Joined > d.joined:
		d.step("absent", min(present, d.value-d.joined+d.memory.Joined), "the demand upstream is unknown (%s); the %s known last stand, up to the %d replicas there are",
			d.upstreamUnknown, number(d.memory.Joined), d.in.Replicas)
	}
}

// podFaults reports the pods of one state as one fault, however many they are.
func (d *deciding) podFaults(all []Pod, state State, kind FaultKind) {
	const named = 3
	var texts []string
	count := 0
	for _, p := range all {
		if p.State != state || p.Fault == "" {
			continue
		}
		if count++; count <= named {
			texts = append(texts, p.Name+": "+p.Fault)
		}
	}
	switch {
	case count > named:
		d.fault(kind, "%s, and %d pods more", strings.Join(texts, "; "), count-named)
	case count > 0:
		d.fault(kind, "%s", strings.Join(texts, "; "))
	}
}

// blind says why nothing at all is known of the load; empty if something is.
func (d *deciding) blind() string {
	if d.in.Load.Independent && d.in.Load.Err == "" {
		return d.blindQuery()
	}
	if d.in.Replicas == 0 && len(d.in.Pods) == 0 && d.in.Load.Err == "" {
		return "" // nothing runs, and that is known
	}
	if d.in.Load.Err != "" {
		d.fault(QueryFault, "load: %s", d.in.Load.Err)
		return "the query failed"
	}
	if d.in.Replicas > 0 && len(d.loads) == 0 && !d.anyPod(func(s State) bool { return s.Speaks() || s == Silent }) {
		if d.waking() && d.in.Upstream.Asked && d.upstreamUnknown == "" {
			return "" // its pods are starting, and carry nothing yet
		}
		return "no pod tells its load" // whatever the query makes of that
	}
	if len(d.in.Load.Values) > 0 || d.in.Load.Elsewhere {
		return ""
	}
	if d.anyPod(func(s State) bool { return s == Answering }) {
		d.fault(QueryFault, "load: the query found nothing in what the pods export")
		return "the query found nothing"
	}
	if d.anyPod(func(s State) bool { return s == Silent || s == Faulty }) {
		return "no pod tells its load"
	}
	return ""
}

// blindQuery says why a query that is answered from more than the pods' samples
// tells nothing of the load.
func (d *deciding) blindQuery() string {
	for _, v := range d.in.Load.Values {
		if !finite(v.Value) && !math.IsNaN(v.Value) {
			return "the load is no measurement"
		}
	}
	if len(d.in.Load.Values) == 0 {
		d.fault(QueryFault, "load: the query found nothing")
		return "the query found nothing"
	}
	return ""
}

// assume answers with what was known last, else with the replicas there are.
func (d *deciding) assume(why string) {
	present := float64(d.in.Replicas) * d.in.Policy.Target
	d.out.Demand, d.assumed = math.NaN(), true
	switch last := d.memory.Last; {
	case d.joined > max(present, last):
		d.step("absent", d.joined, "%s; the demand upstream stands", why)
	case d.memory.Known && last > 0:
		d.step("absent", last, "%s; the last answer stands", why)
	default:
		d.step("absent", present, "%s; the %d replicas there are stand", why, d.in.Replicas)
	}
}

// completeFleetWide keeps a result that names no pod from falling while a pod
// that had a part in it is unknown.
func (d *deciding) completeFleetWide() {
	last := d.memory.Load
	if d.unknown == 0 {
		d.memory.Load = Complete{Known: true, Value: d.fleetWide}
		return
	}
	if last.Known && d.fleetWide < last.Value {
		d.step("absent", d.value-d.fleetWide+last.Value,
			"%s unknown; what the fleet as a whole reports stays at its last complete %s", isAre(d.unknown), number(last.Value))
	}
}

// makeUp counts the target, at least, for every pod whose load is not known, up
// to what the workload has been given.
func (d *deciding) makeUp() {
	target := d.in.Policy.Target
	made := d.value
	for _, p := range d.in.Pods {
		if p.State.unknown() {
			made += max(0, target-d.loads[p.Name])
		}
	}
	made = min(made, float64(d.in.Replicas)*target)
	if made > d.value {
		d.step("absent", made, "%s unknown; each counts at least the target of %s, up to the %d replicas there are",
			isAre(d.unknown), number(target), d.in.Replicas)
	}
}

func isAre(n int) string {
	if n == 1 {
		return "1 pod is"
	}
	return pods(n) + " are"
}

func ofPod(pod string) string {
	if pod == "" {
		return ""
	}
	return " on " + pod
}
