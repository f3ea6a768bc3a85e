package decision

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// arrivalStands is for how long a request that came and went is demand: longer
// than KEDA's default pause between two polls.
const arrivalStands = time.Minute

// join (rule 1) adds the demand that shows upstream to the load of the pods: all
// of it where it is work that still waits to be handed to one, else what exceeds
// the pods' own work in flight.
func (d *deciding) join() {
	u := d.in.Upstream
	if !u.Asked {
		d.memory.Upstream, d.memory.HandOver, d.memory.Exceeding, d.memory.Joined, d.memory.Arrivals, d.memory.Arrived = false, HandOver{}, 0, 0, nil, nil
		return
	}
	d.demand = d.upstreamDemand()
	d.arrivals()
	d.podFaults(u.Sources, Unread, UpstreamFault)
	d.podFaults(u.Sources, Silent, UpstreamFault)
	d.podFaults(u.Sources, Faulty, UpstreamFault)
	if d.upstreamUnknown == "" {
		d.memory.Upstream = true
	}
	d.addUpstream()
	if d.upstreamUnknown == "" {
		d.memory.Joined = d.joined
	}
	if d.joined > 0 || d.memory.Upstream {
		d.out.Demand = d.value
	}
}

func (d *deciding) addUpstream() {
	u := d.in.Upstream
	if u.InFlight {
		d.memory.HandOver = HandOver{}
		own, known := d.podsInFlight()
		if !known {
			d.joined = min(d.demand, d.memory.Exceeding)
			d.step("upstream", d.value+d.joined, "of %s in flight upstream the %s stand that exceeded those of the pods: what the pods have is not known now",
				number(d.demand), number(d.joined))
			return
		}
		d.joined = max(0, d.demand-own)
		d.memory.Exceeding = d.joined
		if d.joined > 0 {
			d.step("upstream", d.value+d.joined, "%s in flight upstream exceed the %s of the pods", number(d.demand), number(own))
		}
		return
	}
	d.memory.Exceeding = 0
	if !d.memory.HandOver.Known && d.anyPod(State.unknown) {
		// What these pods have was theirs before this scaler could read it.
		if d.joined = d.demand; d.joined > 0 {
			d.step("upstream", d.value+d.joined, "%s queued upstream", number(d.joined))
		}
		return
	}
	h := d.memory.HandOver.after(d.demand, d.value, d.moments(u.Sources, u.Demand.Newest), d.moments(d.in.Pods, d.in.Load.Newest))
	d.memory.HandOver, d.joined = h, h.upstream()
	if d.joined > 0 {
		d.step("upstream", d.value+d.joined, "%s", queuedWhy(h))
	}
}

func queuedWhy(h HandOver) string {
	why := number(h.Queued) + " queued upstream"
	if h.Taken > 0 {
		why += ", of which " + number(h.Taken) + " have been seen on pods since"
	}
	if h.Transit > 0 {
		why += ", and " + number(h.Transit) + " on the way from there to a pod"
	}
	return why
}

// upstreamDemand sums what the upstream reports. Why more of it may be unknown is
// left in upstreamUnknown.
func (d *deciding) upstreamDemand() float64 {
	u := d.in.Upstream
	unknown := func(kind FaultKind, format string, args ...any) {
		d.upstreamUnknown = fmt.Sprintf(format, args...)
		d.fault(kind, "upstream: %s", d.upstreamUnknown)
	}
	sum, answering := 0.0, false
	for _, p := range u.Sources {
		answering = answering || p.State == Answering
		if p.State.unknown() && d.upstreamUnknown == "" {
			d.upstreamUnknown = p.Name + ": " + p.State.String()
		}
	}
	for _, v := range u.Demand.Values {
		switch {
		case finite(v.Value):
			sum += v.Value
		case !math.IsNaN(v.Value):
			unknown(BadValue, "the demand is %v: no measurement", v.Value)
		}
	}
	switch {
	case u.Err != "":
		unknown(UpstreamFault, "%s", u.Err)
	case u.Demand.Err != "":
		unknown(QueryFault, "%s", u.Demand.Err)
	case len(u.Demand.Values) == 0 && answering:
		unknown(QueryFault, "the query found nothing in what is exported or reported there")
	}
	return min(sum, MaxReplicas*d.in.Policy.Target)
}

// arrivals notes by how much the counters of requests have grown. A source that
// was not known before may have counted for days; one that was, and had no such
// counter, begins at 0. A counter that fell began anew.
func (d *deciding) arrivals() {
	u, before := d.in.Upstream, d.memory.Arrivals
	d.memory.Arrived = slices.DeleteFunc(slices.Clone(d.memory.Arrived), func(a Arrival) bool {
		return !a.At.Add(arrivalStands).After(d.in.Now) || a.At.After(d.in.Now)
	})
	defer func() {
		for _, a := range d.memory.Arrived {
			d.arrived += a.Count
		}
		if n := len(d.memory.Arrived); n > 0 {
			d.until(d.memory.Arrived[n-1].At.Add(arrivalStands))
		}
	}()
	if !u.Arrivals.Asked || u.Arrivals.Err != "" {
		return
	}
	counts := map[string]float64{}
	for _, p := range u.Sources {
		switch {
		case p.State.answers():
			counts[p.Name] = 0
		case p.State.unknown():
			if n, known := before[p.Name]; known {
				counts[p.Name] = n
			}
		}
	}
	for _, v := range u.Arrivals.Values {
		if _, there := counts[v.Pod]; there && finite(v.Value) {
			counts[v.Pod] = v.Value
		}
	}
	grown := 0.0
	for name, n := range counts {
		last, known := before[name]
		switch {
		case !known:
		case n >= last:
			grown += n - last
		default:
			grown += n
		}
	}
	d.memory.Arrivals = counts
	if grown == 0 {
		return
	}
	if n := len(d.memory.Arrived); n > 0 && d.in.Now.Sub(d.memory.Arrived[n-1].At) < time.Second {
		d.memory.Arrived[n-1].Count += grown
		return
	}
	d.memory.Arrived = append(d.memory.Arrived, Arrival{At: d.in.Now, Count: grown})
}

// podsInFlight is the pods' own work in flight, as far as they tell. It is not
// known where a pod that may have some was never read, for then all that is in
// flight upstream would seem to exceed it.
func (d *deciding) podsInFlight() (float64, bool) {
	r := d.in.InFlight
	if r.Err != "" || d.in.Filling || !r.Asked || slices.ContainsFunc(d.in.Pods, func(p Pod) bool { return p.State == Unread || p.State == Faulty }) {
		return 0, false
	}
	sum := 0.0
	for _, v := range r.Values {
		switch {
		case finite(v.Value):
			sum += v.Value
		case !math.IsNaN(v.Value):
			return 0, false
		}
	}
	return sum, true
}

// moments are when the samples were taken of those that answer: the oldest was no
// later, and the newest no sooner, than what the result shows.
func (d *deciding) moments(all []Pod, newest time.Time) moments {
	m := moments{newest: newest}
	for _, p := range all {
		if !p.State.answers() {
			continue
		}
		at := d.in.Now.Add(-p.Age)
		if m.oldest.IsZero() || at.Before(m.oldest) {
			m.oldest = at
		}
		if at.After(m.newest) {
			m.newest = at
		}
	}
	return m
}

// wakes says whether what shows upstream is a reason to be active, at zero
// replicas too; and why, where it is.
func (d *deciding) wakes() (bool, string) {
	activation := d.in.Policy.Activation
	unit := "queued upstream"
	if d.in.Upstream.InFlight {
		unit = "in flight upstream"
	}
	switch {
	case d.demand > activation:
		return true, fmt.Sprintf("%s %s, above the activation of %s", number(d.demand), unit, number(activation))
	case d.arrived > activation:
		return true, fmt.Sprintf("%s requests arrived upstream within the last %s, above the activation of %s",
			number(d.arrived), arrivalStands, number(activation))
	}
	return false, ""
}

// asleep says why nothing wakes the workload from zero replicas.
func (d *deciding) asleep() string {
	switch {
	case !d.in.Upstream.Asked:
		return "asleep at zero replicas, and nothing shows demand there: set upstream, or have it reported"
	case d.upstreamUnknown != "":
		return "asleep at zero replicas; the demand upstream is unknown: " + d.upstreamUnknown
	}
	return fmt.Sprintf("asleep at zero replicas; %s upstream, not above the activation of %s", number(d.demand), number(d.in.Policy.Activation))
}
