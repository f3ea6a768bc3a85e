package sim

import (
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
)

// state is how far a replica's life has come. The order is that in which a
// ReplicaSet would rather lose them.
type state int

const (
	pending state = iota // no node has the GPUs that it needs
	starting
	loading
	ready
	draining
)

// replica is one pod and its queue.
type replica struct {
	queue
	name, ip string
	number   int       // of its creation in the fleet, from 1
	created  time.Time // or placed: since when it holds its GPUs
	state    state
	node     int // of those of the nodes; meaningless while pending
}

func (r *replica) pod() cluster.Pod {
	p := cluster.Pod{
		Name: r.name, UID: "uid-of-" + r.name, IP: r.ip, Phase: "Running",
		// A pod that is told to end stays ready until it does.
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

// event is something that will happen to a replica.
type event struct {
	at      time.Time
	order   uint64 // of its scheduling: what is due at once happens in this order
	kind    eventKind
	replica *replica
	request request // of finished
}

type eventKind int

const (
	started  eventKind = iota // the process runs
	loaded                    // the model is loaded
	finished                  // a request is done
)

// events is a heap, the next one first.
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
