package decision

import "time"

// Policy holds the settings of a trigger.
type Policy struct {
	Target           float64 // load per replica, ≥ 0.001, in whole thousandths
	Activation       float64 // the workload is active while its work in flight exceeds this
	SaturationTarget float64 // 0 to 1; 0 disables saturation
	SaturationAdds   bool    // saturation also makes the fleet grow
	LatencyTarget    time.Duration
	LatencyLookback  time.Duration // window of the latency query
	Hold             time.Duration
}

// Input is all evidence for one decision.
type Input struct {
	Now    time.Time
	Policy Policy
	// Replicas is spec.replicas of the scale target.
	Replicas int
	// Filling: the samples do not cover the window of the queries yet, so that sums over
	// time are too small.
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
	Configured bool
	Name       string
	// Err says why the leader is unknown; empty if it is known.
	Err string
	// Ignored: the trigger must not follow the leader that it names.
	Ignored bool
	// Desired is the leader's own decision, within its minReplicaCount and maxReplicaCount;
	// 0 if no trigger scales it, or if it is paused.
	Desired int
	// Replicas is its spec.replicas. Pods counts its ready and its terminating pods, which
	// are those that may have work.
	Replicas, Pods int
	// Ratio is how many replicas of the leader one replica of this workload serves.
	Ratio float64
	// Exclusive: only the leader sizes this workload.
	Exclusive bool
}

// Upstream is the demand that has not reached a pod: in a queue, a gateway or a broker.
// At zero replicas it is the only evidence of demand.
type Upstream struct {
	Configured bool // the trigger names an upstream, or a client pushes demand
	// Err says why the demand is unknown; empty if it is known.
	Err string
	// InFlight: the demand includes work on pods. Otherwise it is only the work that waits
	// for a pod.
	InFlight bool
	// Sources are the instances that are read or that push.
	Sources []Pod
	Demand  Reading
	// Arrivals are request counters, one per source. An increase is demand, even if the
	// requests have ended since.
	Arrivals Reading
}

// Pod is one source of samples.
type Pod struct {
	Name  string
	State State
	Ready bool          // ready for work, and not terminating
	Age   time.Duration // of its last samples; 0 without samples
	Fault string        // the reason of its state
}

// State says whether a pod's samples are current and complete.
type State int

const (
	// Starting: it has never responded and is not ready. It has no load yet.
	Starting State = iota
	// Unread: it is ready, and has not responded to this scaler yet.
	Unread
	// Answering: it responds with all series that its engine should export.
	Answering
	// Idle: it responds, and its engine exports no load before its first request.
	Idle
	// Silent: it has stopped responding. Its last samples are kept.
	Silent
	// Faulty: it responds without some series that its engine should export.
	Faulty
)

var states = [...]string{"starting", "not read yet", "answering", "idle", "silent", "faulty"}

// States returns all states.
func States() []State { return []State{Starting, Unread, Answering, Idle, Silent, Faulty} }

func (s State) String() string { return states[s] }

// unknown reports whether the pod's load may be higher than its samples show.
func (s State) unknown() bool { return s == Unread || s == Silent || s == Faulty }

// Responds reports whether the pod responds, with complete metrics or without.
func (s State) Responds() bool { return s.current() || s == Faulty }

// current reports whether the pod's samples are current and complete.
func (s State) current() bool { return s == Answering || s == Idle }

// Reading is the result of a query.
type Reading struct {
	Configured bool // the trigger has such a query
	Values     []Value
	Err        string // why the query failed; empty if it succeeded
	// FromUpstream: the upstream serves the metrics of the query. An empty result is then
	// not a fault of the pods.
	FromUpstream bool
	// Newest is the time of the newest sample in the result. The states of the pods may be
	// older, because pods are read while the query runs. Zero if the states are as new.
	Newest time.Time
	// Independent: a Prometheus answers the query from any series, not only those of the
	// pods. It may report work without a pod, and an empty result is a fault.
	Independent bool
}

// Value is one element of a query's result.
type Value struct {
	Pod   string // or the source of an upstream; empty for a fleet-wide value
	Value float64
}

// Memory is the state that a decision leaves for the next one of its trigger. The zero
// Memory is that of a new trigger. A decision does not modify the Memory that it is given.
type Memory struct {
	// Last is the last value that was based on a known load. HasLast: there is one.
	HasLast bool
	Last    float64
	// Decided: there is an earlier decision. Active and Replicas are its activity, and
	// spec.replicas at that time.
	Decided, Active bool
	Replicas        int
	// Waking: no ready pod has reported its work since the workload left zero replicas, or
	// since the scaler first saw it.
	Waking bool
	// Peaks is the monotonic queue of hold: the oldest and largest first, in decreasing order.
	Peaks []Peak
	// Load and Latency are the last fleet-wide values while no pod was unknown.
	Load, Latency Complete
	// LatencySeen is the last measured latency, with or without unknown pods.
	LatencySeen Complete
	// UpstreamKnown: the upstream demand has been known before.
	UpstreamKnown bool
	HandOver      HandOver
	// UpstreamExcess is the last known work in flight upstream beyond that of the pods.
	UpstreamExcess float64
	// UpstreamAdded is the last known addition of the upstream to the load.
	UpstreamAdded float64
	// ArrivalCounters holds the request counter of each upstream source. RecentArrivals
	// holds their increases within arrivalExpiry.
	ArrivalCounters map[string]float64
	RecentArrivals  []Arrival
	// LeaderKnown: the leader has been known. LeaderPods are its pods at that time which
	// still exist.
	LeaderKnown bool
	LeaderPods  int
	// LeaderReplicas is the last known size of the leader.
	LeaderReplicas int
	// LatencyReplicas is what the latency last asked for, LatencyAt when it was measured.
	LatencyReplicas int
	LatencyAt       time.Time
	// Ready is a monotonic queue of ready replicas within the window of the latency query:
	// the oldest and smallest first, in increasing order. Counts of 0 are left out.
	Ready []Ready
}

// Ready is a number of ready replicas, and the last time that it applied.
type Ready struct {
	At    time.Time
	Count int
}

// Arrival is a number of requests, and the time of their arrival.
type Arrival struct {
	At    time.Time
	Count float64
}

// Peak is a value that hold keeps until it is older than Policy.Hold.
type Peak struct {
	At    time.Time
	Value float64
}

// Complete is a value to which every pod has contributed.
type Complete struct {
	Known bool
	Value float64
}
