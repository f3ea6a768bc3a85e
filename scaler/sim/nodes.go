package sim

import (
	"fmt"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
)

// GPUResource is the resource of the nodes' GPUs.
const GPUResource = "nvidia.com/gpu"

// Nodes hold the GPUs that fleets share.
type Nodes struct{ gpus, free []int } // by node

// NewNodes returns nodes with so many GPUs each.
func NewNodes(gpus []int) *Nodes { return &Nodes{gpus, append([]int(nil), gpus...)} }

func nodeName(i int) string { return fmt.Sprintf("gpu-node-%d", i+1) }

// place takes so many GPUs from the node that has the most free; ok is false if none has
// enough. A replica without GPUs fits anywhere.
func (n *Nodes) place(gpus int) (node int, ok bool) {
	for i, free := range n.free {
		if free > n.free[node] {
			node = i
		}
	}
	if gpus == 0 {
		return 0, true
	}
	if len(n.free) == 0 || n.free[node] < gpus {
		return 0, false
	}
	n.free[node] -= gpus
	return node, true
}

func (n *Nodes) release(node, gpus int) {
	if gpus > 0 {
		n.free[node] += gpus
	}
}

// Held returns how many GPUs are in use, and how many there are.
func (n *Nodes) Held() (held, of int) {
	for i, gpus := range n.gpus {
		held, of = held+gpus-n.free[i], of+gpus
	}
	return held, of
}

// Inventory returns the nodes as Kubernetes would list them.
func (n *Nodes) Inventory() (all []*cluster.Node) {
	for i, gpus := range n.gpus {
		all = append(all, &cluster.Node{
			NodeSpec: &cluster.NodeSpec{Name: nodeName(i), Ready: true, Allocatable: cluster.Resources{GPUResource: int64(gpus), "pods": 110}},
			Held:     cluster.Resources{GPUResource: int64(gpus - n.free[i])},
		})
	}
	return all
}
