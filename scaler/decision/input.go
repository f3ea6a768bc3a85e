package decision

import "time"

// Policy is what a trigger asks for.
type Policy struct {
	Target           float64 // load that one replica should carry, ≥ 0.001, in whole thousandths
	Activation       float64 // active while work in flight is above it
	SaturationTarget float64 // 0 to 1; 0 where saturation is not looked at
	SaturationAdds   bool    // saturation also makes the fleet grow
	LatencyTarget    time.Duration
	LatencyLookback  time.Duration // over which the latency is measured
	Hold             time.Duration
}

// Input is all that a decision looks at.
type Input struct {
	Now    time.Time
	Policy Policy
	// Replicas is how many the workload has been given: spec.replicas of the
	// scale target.
	Replicas int
	// Filling: the samples do not reach back as far as the queries yet, and what
	// these sum up over time is too little.
	Filling bool
	Pods    []Pod

	Load       Reading
	InFlight   Reading
	Saturation Reading
	Latency    Reading // in seconds

	Upstream Upstream
	Leader   Leader
	Capacity Capacity
}

// Leader is the workload whose replicas size this one.
type Leader struct {
	Asked bool
	Name  string
	// Err says why nothing is known of it; empty where something is.
	Err string
	// Void: there is no leader, for the trigger may not follow the one that it names.
	Void bool
	// Wanted is what its own decision asks for, within its minReplicaCount and
	// maxReplicaCount; 0 where nobody decides for it, or it is paused.
	Wanted int
	// Replicas is its spec.replicas, and Pods how many of its pods have work, or may
	// still have some: ready ones, and terminating ones.
	Replicas, Pods int
	// Ratio is how many of its replicas one of this workload serves; Alone: nothing else sizes this one.
	Ratio float64
	Alone bool
}

// Upstream is demand that shows before it reaches a pod: in an API server's
// queue, a gateway, a broker. It is all there is to see at zero replicas.
type Upstream struct {
	Asked bool // the trigger has an upstream, or something reports for its workload
	// Err says why nothing can be known of it; empty where it can.
	Err string
	// InFlight: the demand counts work that has reached a pod too; else only what
	// still waits to be handed to one.
	InFlight bool
	// Sources are what is read, or reports, as its readings show it.
	Sources []Pod
	Demand  Reading
	// Arrivals are counters of requests, each of a source: one that has grown is
	// demand, though what arrived is gone again.
	Arrivals Reading
}

// Pod is one source of samples, as its readings and the cluster show it.
type Pod struct {
	Name  string
	State State
	// Ready to take work: not one that is terminating.
	Ready bool
	Age   time.Duration // of its last samples; 0 where there are none
	Fault string        // why it is in this state
}

// State says how far a pod's samples can be believed.
type State int

const (
	// Starting: it has never answered and is not ready; it carries nothing yet.
	Starting State = iota
	// Unread: it is ready, but has not answered this scaler yet.
	Unread
	// Answering with all that its engine should export.
	Answering
	// Idle: its engine answers, and exports no load before its first request.
	Idle
	// Silent: it has answered, and does not any more. Its last samples stand.
	Silent
	// Faulty: it answers, and what its engine should export is not there.
	Faulty
)

var states = [...]string{"starting", "not read yet", "answering", "idle", "silent", "faulty"}

// States returns all states.
func States() []State { return []State{Starting, Unread, Answering, Idle, Silent, Faulty} }

func (s State) String() string { return states[s] }

// unknown reports whether the pod may carry more than its samples show.
func (s State) unknown() bool { return s == Unread || s == Silent || s == Faulty }

// Speaks reports whether the pod answers at all, with what it should or without.
func (s State) Speaks() bool { return s.answers() || s == Faulty }

// answers reports whether the pod's samples are its present ones.
func (s State) answers() bool { return s == Answering || s == Idle }

// Reading is what a query yielded.
type Reading struct {
	Asked  bool // there is such a query
	Values []Value
	Err    string // the query failed; empty where it did not
	// Elsewhere: what the query is about is taken from the upstream, so that an
	// empty result is none of the pods' fault.
	Elsewhere bool
	// Newest is when the newest sample that the result may show was taken: pods are
	// read on while it is asked for, and their states are of before that. Zero where
	// the states tell.
	Newest time.Time
	// Independent: the query is answered from more than the pods' samples, by a
	// Prometheus. It tells of work though there be no pod, and nothing found is a fault.
	Independent bool
}

// Value is one element of a query's result.
type Value struct {
	Pod   string // or source of an upstream; empty for what belongs to all of them together
	Value float64
}

// Memory is what a decision leaves for the next one of its trigger. The zero
// Memory is that of a trigger that has decided nothing. It is a value: a
// decision changes none that it was given.
type Memory struct {
	// Known: something was known once, and Last was the answer then.
	Known bool
	Last  float64
	// Decided: there was a decision before; Active is what it said, and Replicas
	// what the workload had been given then.
	Decided, Active bool
	Replicas        int
	// Waking: since the workload left zero replicas, or since this scaler first
	// saw it, no ready pod has told of its work.
	Waking bool
	// Peaks of the hold, the greatest and oldest first, each smaller than the one before.
	Peaks []Peak
	// The last results without a pod while no pod was unknown.
	Load, Latency Complete
	// LatencySeen is the latency that was measured last, whoever was unknown.
	LatencySeen Complete
	// Upstream: it was known once.
	Upstream bool
	HandOver HandOver
	// Exceeding is what was in flight upstream beyond the pods' own work, when that was known.
	Exceeding float64
	// Joined is what the upstream added to the load when it was known.
	Joined float64
	// Arrivals are the counters of each source of the upstream, and Arrived what
	// they have grown by of late.
	Arrivals map[string]float64
	Arrived  []Arrival
	// Led: a leader was known, and LeaderPods are those that it had then and has still.
	Led        bool
	LeaderPods int
	// LeaderSize is what the follower was sized by: what the leader wanted, or had.
	LeaderSize int
	// LatencyAsked is how many replicas the latency asked for then, and LatencyAt when.
	LatencyAsked int
	LatencyAt    time.Time
	// Ready are the replicas that were ready while the latency was measured, as far
	// as later ones were more: the oldest and fewest first. None is 0.
	Ready []Ready
}

// Ready is how many replicas were ready, and when that was so last.
type Ready struct {
	At    time.Time
	Count int
}

// Arrival is how many requests have come, and when.
type Arrival struct {
	At    time.Time
	Count float64
}

// Peak is an answer that stands until it is older than the hold.
type Peak struct {
	At    time.Time
	Value float64
}

// Complete is a value that all pods had a part in.
type Complete struct {
	Known bool
	Value float64
}
