package sim

import (
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
)

// state is the state of a replica, in the order in which a ReplicaSet removes replicas.
type state int

const (
	pending state = iota // not placed on a node
	starting
	loading
	ready
	draining
)

// replica is one pod and its queue.
type replica struct {
	queue
	name, ip string
	number   int       // in the order of creation, from 1
	created  time.Time // or placed on a node: the start of its GPU-seconds
	state    state
	node     int // index; invalid while pending
}

func (r *replica) pod() cluster.Pod {
	p := cluster.Pod{
		Name: r.name, UID: "uid-of-" + r.name, IP: r.ip, Phase: "Running",
		// A terminating pod stays ready until it ends.
		Ready:       r.state == ready || r.state == draining,
		Terminating: r.state == draining,
	}
	if r.state <= starting {
		p.Phase, p.IP = "Pending", ""
	}
	if r.state != pending {
		p.Node = nodeName(r.node)
	}
	return p
}

// event is a future change of a replica.
type event struct {
	at      time.Time
	order   uint64 // among the events of one instant
	kind    eventKind
	replica *replica
	request request // for finished
}

type eventKind int

const (
	started  eventKind = iota // the process runs
	loaded                    // the model is loaded
	finished                  // a request is finished
)

// events is a heap of the next event.
type events []event

func (e events) Len() int      { return len(e) }
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e events) Less(i, j int) bool {
	if !e[i].at.Equal(e[j].at) {
		return e[i].at.Before(e[j].at)
	}
	return e[i].order < e[j].order
}
func (e *events) Push(x any) { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := len(*e) - 1
	x := (*e)[last]
	*e = (*e)[:last]
	return x
}
