package decision

import (
	"math"
	"strings"
)

// load (rule 1) sums the loads of the pods and the fleet-wide load. Invalid values are left
// out here; rule 2 compensates for them.
func (d *deciding) load() {
	d.loads = map[string]float64{}
	sum, nans := 0.0, 0
	for _, v := range d.in.Load.Values {
		switch {
		case math.IsNaN(v.Value):
			nans++ // a quantile or a mean without traffic
		case !finite(v.Value):
			d.fault(BadValue, "invalid load %v%s; wanted: a finite number of at least 0", v.Value, ofPod(v.Pod))
			d.distrust(v.Pod)
		case v.Pod != "":
			d.loads[v.Pod] += v.Value
			sum += v.Value
		default:
			d.fleetWide += v.Value
			sum += v.Value
		}
	}
	if len(d.in.Load.Values) > 0 || d.anyPod(State.current) {
		d.out.Demand = sum
	}
	d.step("load", sum, "%s", d.loadWhy(sum))
	if nans > 0 {
		d.note("load", "NaN is ignored: there was no traffic to measure")
	}
}

func (d *deciding) loadWhy(sum float64) string {
	reporting := len(d.loads)
	switch {
	case reporting > 0 && d.fleetWide > 0:
		return number(sum-d.fleetWide) + " on " + pods(reporting) + " and " + number(d.fleetWide) + " fleet-wide"
	case reporting > 0:
		return number(sum) + " on " + pods(reporting)
	default:
		return number(sum) + " fleet-wide"
	}
}

// distrust marks a pod as Faulty; without a name, all pods. It copies the caller's input.
func (d *deciding) distrust(pod string) {
	changed := make([]Pod, len(d.in.Pods))
	copy(changed, d.in.Pods)
	for i := range changed {
		if (pod == "" || changed[i].Name == pod) && changed[i].State.current() {
			changed[i].State, changed[i].Fault = Faulty, "its load is not a valid number"
		}
	}
	d.in.Pods = changed
}

// absent (rule 2) compensates for missing data that would lower the value. A pod with an
// unknown load counts at least the target. The compensation never exceeds the current
// replicas.
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
	if why := d.unknownLoad(); why != "" {
		d.fallBack(why)
		return
	}
	d.completeFleetWide()
	d.addUnknownPods()
	d.keepReplicas()
}

// keepReplicas keeps the current replicas while a part of the load has not been seen since
// the scaler started.
func (d *deciding) keepReplicas() {
	present := float64(d.in.Replicas) * d.in.Policy.Target
	if present <= d.value {
		return
	}
	switch {
	case d.in.Filling:
		d.step("absent", present, "the sample window is not full yet; the current %d replicas are kept", d.in.Replicas)
	case d.upstreamUnknown != "" && !d.memory.UpstreamKnown:
		d.step("absent", present, "the upstream demand is unknown (%s); the current %d replicas are kept", d.upstreamUnknown, d.in.Replicas)
	case d.upstreamUnknown != "" && d.memory.UpstreamAdded > d.upstreamAdded:
		d.step("absent", min(present, d.value-d.upstreamAdded+d.memory.UpstreamAdded), "the upstream demand is unknown (%s); its last known value of %s is kept, up to the current %d replicas",
			d.upstreamUnknown, number(d.memory.UpstreamAdded), d.in.Replicas)
	}
}

// podFaults reports all pods of one state as one fault.
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
		d.fault(kind, "%s; and %d more pods", strings.Join(texts, "; "), count-named)
	case count > 0:
		d.fault(kind, "%s", strings.Join(texts, "; "))
	}
}

// unknownLoad says why the load is unknown; empty if a part of it is known.
func (d *deciding) unknownLoad() string {
	if d.in.Load.Independent && d.in.Load.Err == "" {
		return d.unknownQuery()
	}
	if d.in.Replicas == 0 && len(d.in.Pods) == 0 && d.in.Load.Err == "" {
		return "" // nothing runs
	}
	if d.in.Load.Err != "" {
		d.fault(QueryFault, "load: %s", d.in.Load.Err)
		return "the query failed"
	}
	if d.in.Replicas > 0 && len(d.loads) == 0 && !d.anyPod(func(s State) bool { return s.Responds() || s == Silent }) {
		if d.waking() && d.in.Upstream.Configured && d.upstreamUnknown == "" {
			return "" // its pods are starting, and have no load yet
		}
		return "no pod reports its load" // even if the query returns a value
	}
	if len(d.in.Load.Values) > 0 || d.in.Load.FromUpstream {
		return ""
	}
	if d.anyPod(func(s State) bool { return s == Answering }) {
		d.fault(QueryFault, "load: the query returned nothing from the metrics of the pods")
		return "the query returned nothing"
	}
	if d.anyPod(func(s State) bool { return s == Silent || s == Faulty }) {
		return "no pod reports its load"
	}
	return ""
}

// unknownQuery is unknownLoad for an independent query.
func (d *deciding) unknownQuery() string {
	for _, v := range d.in.Load.Values {
		if !finite(v.Value) && !math.IsNaN(v.Value) {
			return "the load is not a valid number"
		}
	}
	if len(d.in.Load.Values) == 0 {
		d.fault(QueryFault, "load: the query returned nothing")
		return "the query returned nothing"
	}
	return ""
}

// fallBack uses the last known value, or else the current replicas.
func (d *deciding) fallBack(why string) {
	present := float64(d.in.Replicas) * d.in.Policy.Target
	d.out.Demand, d.fellBack = math.NaN(), true
	switch last := d.memory.Last; {
	case d.upstreamAdded > max(present, last):
		d.step("absent", d.upstreamAdded, "%s; the upstream demand applies", why)
	case d.memory.HasLast && last > 0:
		d.step("absent", last, "%s; the last known value is kept", why)
	default:
		d.step("absent", present, "%s; the current %d replicas are kept", why, d.in.Replicas)
	}
}

// completeFleetWide keeps the fleet-wide load from falling while a pod is unknown, because
// that pod may be missing in it.
func (d *deciding) completeFleetWide() {
	last := d.memory.Load
	if d.unknown == 0 {
		d.memory.Load = Complete{Known: true, Value: d.fleetWide}
		return
	}
	if last.Known && d.fleetWide < last.Value {
		d.step("absent", d.value-d.fleetWide+last.Value,
			"%s unknown; the fleet-wide load stays at its last complete value of %s", isAre(d.unknown), number(last.Value))
	}
}

// addUnknownPods counts at least the target for every unknown pod, up to the current
// replicas.
func (d *deciding) addUnknownPods() {
	target := d.in.Policy.Target
	sum := d.value
	for _, p := range d.in.Pods {
		if p.State.unknown() {
			sum += max(0, target-d.loads[p.Name])
		}
	}
	sum = min(sum, float64(d.in.Replicas)*target)
	if sum > d.value {
		d.step("absent", sum, "%s unknown; each counts at least the target of %s, up to the current %d replicas",
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
