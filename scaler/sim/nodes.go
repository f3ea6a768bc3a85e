package sim

import (
	"fmt"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
)

// GPUResource is the extended resource of the GPUs.
const GPUResource = "nvidia.com/gpu"

// Nodes are the nodes that fleets share.
type Nodes struct{ gpus, free []int } // GPUs by node

// NewNodes returns one node for each number of GPUs.
func NewNodes(gpus []int) *Nodes { return &Nodes{gpus, append([]int(nil), gpus...)} }

func nodeName(i int) string { return fmt.Sprintf("gpu-node-%d", i+1) }

// place allocates GPUs on the node with the most free GPUs. It reports false if that node has too
// few. A replica without GPUs fits on any node.
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

// Allocated returns the number of allocated GPUs, and of all GPUs.
func (n *Nodes) Allocated() (allocated, total int) {
	for i, gpus := range n.gpus {
		allocated, total = allocated+gpus-n.free[i], total+gpus
	}
	return allocated, total
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
