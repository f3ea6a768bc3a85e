package sim

import (
	"fmt"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
)

const gpuResource = "nvidia.com/gpu"

// nodes are where replicas run: GPUs that there are, and that are free, by node.
type nodes struct{ gpus, free []int }

func newNodes(gpus []int) *nodes { return &nodes{gpus, append([]int(nil), gpus...)} }

func nodeName(i int) string { return fmt.Sprintf("gpu-node-%d", i+1) }

// place takes so many GPUs of the node that has most left; ok is false where none has
// enough. What needs none goes anywhere.
func (n *nodes) place(gpus int) (node int, ok bool) {
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

func (n *nodes) release(node, gpus int) {
	if gpus > 0 {
		n.free[node] += gpus
	}
}

// held is how many GPUs are in use, of how many.
func (n *nodes) held() (held, of int) {
	for i, gpus := range n.gpus {
		held, of = held+gpus-n.free[i], of+gpus
	}
	return held, of
}

// inventory is what the API server would say of them.
func (n *nodes) inventory() (all []*cluster.Node) {
	for i, gpus := range n.gpus {
		all = append(all, &cluster.Node{
			NodeSpec: &cluster.NodeSpec{Name: nodeName(i), Ready: true, Allocatable: cluster.Resources{gpuResource: int64(gpus), "pods": 110}},
			Held:     cluster.Resources{gpuResource: int64(gpus - n.free[i])},
		})
	}
	return all
}
