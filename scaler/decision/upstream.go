package decision

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// arrivalExpiry is how long a request that has ended counts as demand: twice KEDA's default
// polling interval of 30 s.
const arrivalExpiry = time.Minute

// upstream (rule 1) adds the upstream demand to the load of the pods. Queued work is added
// completely. Of work in flight, only the excess over the pods' own work in flight is added.
func (d *deciding) upstream() {
	u := d.in.Upstream
	if !u.Configured {
		d.memory.UpstreamKnown, d.memory.HandOver = false, HandOver{}
		d.memory.UpstreamExcess, d.memory.UpstreamAdded = 0, 0
		d.memory.ArrivalCounters, d.memory.RecentArrivals = nil, nil
		return
	}
	d.demand = d.upstreamDemand()
	d.arrivals()
	d.podFaults(u.Sources, Unread, UpstreamFault)
	d.podFaults(u.Sources, Silent, UpstreamFault)
	d.podFaults(u.Sources, Faulty, UpstreamFault)
	if d.upstreamUnknown == "" {
		d.memory.UpstreamKnown = true
	}
	d.addUpstream()
	if d.upstreamUnknown == "" {
		d.memory.UpstreamAdded = d.upstreamAdded
	}
	if d.upstreamAdded > 0 || d.memory.UpstreamKnown {
		d.out.Demand = d.value
	}
}

func (d *deciding) addUpstream() {
	u := d.in.Upstream
	if u.InFlight {
		d.memory.HandOver = HandOver{}
		own, known := d.podsInFlight()
		if !known {
			d.upstreamAdded = min(d.demand, d.memory.UpstreamExcess)
			d.step("upstream", d.value+d.upstreamAdded, "the work in flight on pods is unknown; of %s in flight upstream, the last known excess of %s is added",
				number(d.demand), number(d.upstreamAdded))
			return
		}
		d.upstreamAdded = max(0, d.demand-own)
		d.memory.UpstreamExcess = d.upstreamAdded
		if d.upstreamAdded > 0 {
			d.step("upstream", d.value+d.upstreamAdded, "%s in flight upstream, %s of them on pods", number(d.demand), number(own))
		}
		return
	}
	d.memory.UpstreamExcess = 0
	if !d.memory.HandOver.Known && d.anyPod(State.unknown) {
		// The pods got their work before this scaler read them: nothing is in transit.
		if d.upstreamAdded = d.demand; d.upstreamAdded > 0 {
			d.step("upstream", d.value+d.upstreamAdded, "%s queued upstream", number(d.upstreamAdded))
		}
		return
	}
	h := d.memory.HandOver.after(d.demand, d.value, d.moments(u.Sources, u.Demand.Newest), d.moments(d.in.Pods, d.in.Load.Newest))
	d.memory.HandOver, d.upstreamAdded = h, h.upstream()
	if d.upstreamAdded > 0 {
		d.step("upstream", d.value+d.upstreamAdded, "%s", queuedWhy(h))
	}
}

func queuedWhy(h HandOver) string {
	why := number(h.Queued) + " queued upstream"
	if h.Taken > 0 {
		why += ", " + number(h.Taken) + " of them on pods by now"
	}
	if h.Transit > 0 {
		why += ", and " + number(h.Transit) + " in transit to a pod"
	}
	return why
}

// upstreamDemand sums the demand of all sources. It sets upstreamUnknown if the sum may be
// too small.
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
			unknown(BadValue, "invalid demand %v; wanted: a finite number of at least 0", v.Value)
		}
	}
	switch {
	case u.Err != "":
		unknown(UpstreamFault, "%s", u.Err)
	case u.Demand.Err != "":
		unknown(QueryFault, "%s", u.Demand.Err)
	case len(u.Demand.Values) == 0 && answering:
		unknown(QueryFault, "the query returned nothing from its metrics or reports")
	}
	return min(sum, MaxReplicas*d.in.Policy.Target)
}

// arrivals records the increase of the request counters. The first value of a new source does
// not count: its requests may be days old. A known source without the counter counts from 0.
// A counter that decreases was reset.
func (d *deciding) arrivals() {
	u, before := d.in.Upstream, d.memory.ArrivalCounters
	d.memory.RecentArrivals = slices.DeleteFunc(slices.Clone(d.memory.RecentArrivals), func(a Arrival) bool {
		return !a.At.Add(arrivalExpiry).After(d.in.Now) || a.At.After(d.in.Now)
	})
	defer func() {
		for _, a := range d.memory.RecentArrivals {
			d.arrived += a.Count
		}
		if n := len(d.memory.RecentArrivals); n > 0 {
			d.until(d.memory.RecentArrivals[n-1].At.Add(arrivalExpiry))
		}
	}()
	if !u.Arrivals.Configured || u.Arrivals.Err != "" {
		return
	}
	counts := map[string]float64{}
	for _, p := range u.Sources {
		switch {
		case p.State.current():
			counts[p.Name] = 0
		case p.State.unknown():
			if n, known := before[p.Name]; known {
				counts[p.Name] = n
			}
		}
	}
	for _, v := range u.Arrivals.Values {
		if _, ok := counts[v.Pod]; ok && finite(v.Value) {
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
	d.memory.ArrivalCounters = counts
	if grown == 0 {
		return
	}
	if n := len(d.memory.RecentArrivals); n > 0 && d.in.Now.Sub(d.memory.RecentArrivals[n-1].At) < time.Second {
		d.memory.RecentArrivals[n-1].Count += grown
		return
	}
	d.memory.RecentArrivals = append(d.memory.RecentArrivals, Arrival{At: d.in.Now, Count: grown})
}

// podsInFlight returns the pods' own work in flight; false if it is unknown. It is unknown
// while a pod with possible work has no valid samples. Otherwise all work in flight upstream
// would count as excess.
func (d *deciding) podsInFlight() (float64, bool) {
	r := d.in.InFlight
	if r.Err != "" || d.in.Filling || !r.Configured || slices.ContainsFunc(d.in.Pods, func(p Pod) bool { return p.State == Unread || p.State == Faulty }) {
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

// moments returns the times of the oldest and the newest samples of the current pods. The
// result of the query is not older than the oldest, and not newer than the newest.
func (d *deciding) moments(all []Pod, newest time.Time) moments {
	m := moments{newest: newest}
	for _, p := range all {
		if !p.State.current() {
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

// upstreamActive reports whether the upstream demand makes the workload active, and why.
func (d *deciding) upstreamActive() (bool, string) {
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
			number(d.arrived), arrivalExpiry, number(activation))
	}
	return false, ""
}

// atZeroReason says why the workload stays at zero replicas.
func (d *deciding) atZeroReason() string {
	switch {
	case !d.in.Upstream.Configured:
		return "at zero replicas nothing reports demand; set upstream, or push demand"
	case d.upstreamUnknown != "":
		return "at zero replicas; the upstream demand is unknown: " + d.upstreamUnknown
	}
	return fmt.Sprintf("at zero replicas; %s upstream, not above the activation of %s", number(d.demand), number(d.in.Policy.Activation))
}
