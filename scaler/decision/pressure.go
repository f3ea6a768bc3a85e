package decision

import (
	"fmt"
	"math"
	"time"
)

// saturation (rule 3) keeps a fleet of busy pods with an empty queue from being
// taken apart: it does not shrink below what would be filled to the target. Set
// in the trigger, it also makes the fleet grow.
func (d *deciding) saturation() {
	r, target := d.in.Saturation, d.in.Policy.SaturationTarget
	if !r.Asked || target <= 0 || len(d.in.Pods) == 0 {
		return
	}
	if r.Err != "" {
		d.fault(QueryFault, "saturation: %s", r.Err)
	}
	sum, missing := d.saturationSum()
	wanted := ceil(sum / target)
	measured, why := min(wanted, d.in.Replicas), "a busy fleet does not shrink below that"
	if d.in.Policy.SaturationAdds {
		measured, why = wanted, "as many are wanted"
	}
	d.asks(measured)
	limit := max(measured, min(wanted+missing, d.in.Replicas))
	if have := replicas(d.value, d.in.Policy.Target); limit > have {
		unsaid := ""
		if missing > 0 {
			unsaid = ", and " + doDoes(missing) + " not say"
		}
		d.step("saturation", float64(limit)*d.in.Policy.Target,
			"a saturation of %s would fill %d replicas to %s%s; %s", number(sum), wanted, number(target), unsaid, why)
	}
}

// asks notes what is asked for by what was measured alone, which hold remembers while a
// pod is unknown.
func (d *deciding) asks(replicas int) {
	d.measured = max(d.measured, float64(replicas)*d.in.Policy.Target)
}

// saturationSum adds up how full the pods are, and counts those that carry work
// and do not say: they may be full.
func (d *deciding) saturationSum() (sum float64, missing int) {
	byPod, average, averaged := map[string]float64{}, 0.0, false
	for _, v := range d.in.Saturation.Values {
		switch {
		case !finite(v.Value):
		case v.Pod != "":
			byPod[v.Pod] = max(byPod[v.Pod], v.Value)
		default:
			average, averaged = max(average, v.Value), true
		}
	}
	silent := 0
	for _, p := range d.in.Pods {
		v, says := byPod[p.Name]
		switch {
		case says:
			sum += v
		case p.State == Idle || p.State == Starting:
		case averaged:
			sum += average
		case p.State == Answering:
			silent++
			missing++
		default:
			missing++
		}
	}
	if silent > 0 {
		d.fault(QueryFault, "saturation: %s not say how full they are, and count as full", doDoes(silent))
	}
	return sum, missing
}

// latencyStands is how long a latency stands of which a query finds nothing any more.
const latencyStands = 10 * time.Minute

// latency (rule 3) multiplies the replicas that it was measured on by how far the
// objective is missed. Pods still loading count towards what was asked for
// before, so that a slow start is no reason to ask again; and neither is what
// fewer pods showed, when the new ones have only just become ready.
func (d *deciding) latency() {
	if d.in.Replicas == 0 && len(d.in.Pods) == 0 {
		// What was measured before it fell asleep is not of the pods that it wakes to.
		d.memory.Latency, d.memory.LatencySeen, d.memory.LatencyAsked = Complete{}, Complete{}, 0
	}
	r, objective := d.in.Latency, d.in.Policy.LatencyTarget.Seconds()
	if !r.Asked || objective <= 0 || len(d.in.Pods) == 0 {
		return
	}
	if r.Err != "" {
		d.fault(QueryFault, "latency: %s", r.Err)
	}
	worst, measured, nans := 0.0, false, 0
	for _, v := range r.Values {
		switch {
		case math.IsNaN(v.Value):
			nans++
		case finite(v.Value):
			worst, measured = max(worst, v.Value), true
		}
	}
	last, lost := d.memory.Latency, r.Err != ""
	switch {
	case nans > 0 && !measured:
		d.note("latency", "NaN asks for nothing: there was no traffic to measure")
	case !measured && r.Err == "" && d.anyPod(func(s State) bool { return s == Answering }):
		d.fault(QueryFault, "latency: the query found nothing in what the pods export")
		// For a while: a query may also mean by nothing that all is well.
		at := d.memory.LatencyAt
		if ends := at.Add(latencyStands); d.in.Now.Before(ends) && !at.After(d.in.Now) { // the clock may have been set back
			lost = true
			d.until(ends)
		}
	}
	// What was measured before a pod went silent, or the query found nothing any more,
	// keeps the fleet, and makes it no larger: it multiplies replicas that it never saw.
	ready, missing := d.measuredOn(), d.unknown > 0 || lost
	wanted := ceil(float64(ready) * worst / objective)
	if !missing {
		d.memory.Latency, d.memory.LatencyAsked = Complete{Known: measured, Value: worst}, wanted
		d.memory.LatencySeen = d.memory.Latency
	}
	if measured && !lost {
		d.memory.LatencyAt = d.in.Now
	}
	if missing {
		most := max(d.in.Replicas, d.memory.LatencyAsked)
		if measured && !lost { // beside a pod that is unknown
			d.memory.LatencySeen = Complete{Known: true, Value: worst}
			d.asks(min(wanted, most))
		}
		if worst = max(worst, last.Value); lost {
			worst = max(worst, d.memory.LatencySeen.Value)
		}
		wanted = min(ceil(float64(ready)*worst/objective), most)
	}
	if have := replicas(d.value, d.in.Policy.Target); wanted > have {
		d.step("latency", float64(wanted)*d.in.Policy.Target, "%ss on %s, for an objective of %ss: %d replicas",
			number(worst), readyReplicas(ready), number(objective), wanted)
	}
}

// measuredOn is the least number of replicas that were ready at a time over which
// the latency was measured; 0 where none is ready now.
func (d *deciding) measuredOn() int {
	ready := 0
	for _, p := range d.in.Pods {
		if p.Ready {
			ready++
		}
	}
	if ready == 0 {
		return 0
	}
	now, list := d.in.Now, d.memory.Ready
	if n := len(list); n > 0 {
		list[n-1].At = now // it was so until now
	}
	for len(list) > 0 && (now.Sub(list[0].At) >= d.in.Policy.LatencyLookback || list[0].At.After(now)) {
		list = list[1:] // too old, or of a clock that has gone back since
	}
	for len(list) > 0 && list[len(list)-1].Count >= ready {
		list = list[:len(list)-1]
	}
	list = append(list, Ready{At: now, Count: ready})
	d.memory.Ready = list
	return d.memory.Ready[0].Count
}

func readyReplicas(n int) string {
	if n == 1 {
		return "1 ready replica"
	}
	return fmt.Sprintf("%d ready replicas", n)
}

// ceil rounds up, but for what is a rounding error above a whole number.
func ceil(v float64) int { return int(min(math.Ceil(v-1e-9), MaxReplicas)) }

func doDoes(n int) string {
	if n == 1 {
		return "1 pod does"
	}
	return pods(n) + " do"
}
