package decision

import (
	"fmt"
	"math"
	"time"
)

// saturation (rule 3) keeps busy pods with an empty queue from being scaled down: the fleet
// does not shrink below the replicas that the saturation fills to the target. If the trigger
// sets saturationTarget, the fleet also grows to that number.
//
// Example: four pods are filled to 0.7, 0.6, 0.5 and 0.2. The sum of 2.0 over a target of 0.8
// is 2.5, so at least 3 replicas remain.
func (d *deciding) saturation() {
	r, target := d.in.Saturation, d.in.Policy.SaturationTarget
	if !r.Configured || target <= 0 || len(d.in.Pods) == 0 {
		return
	}
	if r.Err != "" {
		d.fault(QueryFault, "saturation: %s", r.Err)
	}
	sum, missing := d.saturationSum()
	filled := ceil(sum / target)
	measured, why := min(filled, d.in.Replicas), "the fleet does not shrink below that"
	if d.in.Policy.SaturationAdds {
		measured, why = filled, "the trigger sets saturationTarget, so the fleet grows to that"
	}
	d.noteMeasured(measured)
	limit := max(measured, min(filled+missing, d.in.Replicas))
	if have := replicas(d.value, d.in.Policy.Target); limit > have {
		unreported := ""
		if missing > 0 {
			unreported = ", and " + doDoes(missing) + " not report it"
		}
		d.step("saturation", float64(limit)*d.in.Policy.Target,
			"a total saturation of %s fills %d replicas to %s%s; %s", number(sum), filled, number(target), unreported, why)
	}
}

// noteMeasured raises the measured part of the value, which hold stores while a pod is
// unknown.
func (d *deciding) noteMeasured(replicas int) {
	d.measured = max(d.measured, float64(replicas)*d.in.Policy.Target)
}

// saturationSum sums the saturation of the pods, and counts the pods that may have work and
// do not report it. They count as full.
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
	unreported := 0
	for _, p := range d.in.Pods {
		v, reported := byPod[p.Name]
		switch {
		case reported:
			sum += v
		case p.State == Idle || p.State == Starting:
		case averaged:
			sum += average
		case p.State == Answering:
			unreported++
			missing++
		default:
			missing++
		}
	}
	if unreported > 0 {
		d.fault(QueryFault, "saturation: %s not report it, and so count as full", doDoes(unreported))
	}
	return sum, missing
}

// latencyExpiry is how long the last measured latency applies once the query returns nothing.
const latencyExpiry = 10 * time.Minute

// latency (rule 3) multiplies the replicas that the latency was measured on by latency /
// objective. The result is a total, so pods that are still loading are not asked for again.
// Pods that became ready within the window of the query do not count: the latency is still
// that of fewer pods.
//
// Example: 0.9 s on 2 ready replicas with an objective of 0.5 s needs 4 replicas.
func (d *deciding) latency() {
	if d.in.Replicas == 0 && len(d.in.Pods) == 0 {
		// At zero replicas earlier measurements expire: they do not apply to new pods.
		d.memory.Latency, d.memory.LatencySeen, d.memory.LatencyReplicas = Complete{}, Complete{}, 0
	}
	r, objective := d.in.Latency, d.in.Policy.LatencyTarget.Seconds()
	if !r.Configured || objective <= 0 || len(d.in.Pods) == 0 {
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
		d.note("latency", "NaN is ignored: there was no traffic to measure")
	case !measured && r.Err == "" && d.anyPod(func(s State) bool { return s == Answering }):
		d.fault(QueryFault, "latency: the query returned nothing from the metrics of the pods")
		// Only for a while: an empty result may also mean that no latency is above a limit.
		at := d.memory.LatencyAt
		if ends := at.Add(latencyExpiry); d.in.Now.Before(ends) && !at.After(d.in.Now) { // the clock may have been set back
			lost = true
			d.until(ends)
		}
	}
	// While a pod is unknown, or the query returns nothing, the last known latency keeps the
	// fleet from shrinking. It must not make the fleet grow, because it was not measured on
	// the replicas that are ready now.
	ready, missing := d.leastReady(), d.unknown > 0 || lost
	wanted := ceil(float64(ready) * worst / objective)
	if !missing {
		d.memory.Latency, d.memory.LatencyReplicas = Complete{Known: measured, Value: worst}, wanted
		d.memory.LatencySeen = d.memory.Latency
	}
	if measured && !lost {
		d.memory.LatencyAt = d.in.Now
	}
	if missing {
		most := max(d.in.Replicas, d.memory.LatencyReplicas)
		if measured && !lost { // measured, while a pod is unknown
			d.memory.LatencySeen = Complete{Known: true, Value: worst}
			d.noteMeasured(min(wanted, most))
		}
		if worst = max(worst, last.Value); lost {
			worst = max(worst, d.memory.LatencySeen.Value)
		}
		wanted = min(ceil(float64(ready)*worst/objective), most)
	}
	if have := replicas(d.value, d.in.Policy.Target); wanted > have {
		d.step("latency", float64(wanted)*d.in.Policy.Target, "%ss on %s, with an objective of %ss: %d replicas",
			number(worst), readyReplicas(ready), number(objective), wanted)
	}
}

// leastReady returns the smallest number of ready replicas within the window of the latency
// query; 0 if none is ready now. The list is a monotonic queue.
func (d *deciding) leastReady() int {
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
		list[n-1].At = now // applied until now
	}
	for len(list) > 0 && (now.Sub(list[0].At) >= d.in.Policy.LatencyLookback || list[0].At.After(now)) {
		list = list[1:] // expired, or in the future because the clock was set back
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

// ceil rounds up. A rounding error above a whole number does not count.
func ceil(v float64) int { return int(min(math.Ceil(v-1e-9), MaxReplicas)) }

func doDoes(n int) string {
	if n == 1 {
		return "1 pod does"
	}
	return pods(n) + " do"
}
