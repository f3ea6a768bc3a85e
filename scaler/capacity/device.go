package capacity

import (
	"fmt"
	"slices"
	"strings"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
)

// Device is what makes a replica's room scarce.
type Device struct {
	Resource   string // "nvidia.com/gpu"
	PerReplica int64
	// Requested: the pods request it; else they hold it without a word to the scheduler.
	Requested bool
}

// accelerators are the resources that are taken for GPUs, by the beginnings of their names.
var accelerators = []string{"nvidia.com/gpu", "nvidia.com/mig-", "amd.com/gpu", "gpu.intel.com/"}

// defaultResource is what pods hold that are said to hold GPUs, and request none.
const defaultResource = "nvidia.com/gpu"

// DeviceOf says which devices a replica holds: resource and perReplica are what its
// trigger says of it, empty and 0 where it says nothing. A PerReplica of 0 means none.
// What the pods request goes before what a trigger says they hold.
func DeviceOf(t *cluster.PodTemplate, resource string, perReplica int64) Device {
	if resource != "" {
		if n := t.Requests[resource]; n > 0 {
			return Device{resource, n, true}
		}
		return Device{resource, max(perReplica, 0), false}
	}
	for _, prefix := range accelerators {
		var names []string
		for name, n := range t.Requests {
			if n > 0 && strings.HasPrefix(name, prefix) {
				names = append(names, name)
			}
		}
		if len(names) > 0 {
			name := slices.Min(names)
			return Device{name, t.Requests[name], true}
		}
	}
	return Device{defaultResource, max(perReplica, 0), false}
}

func (d Device) String() string { return fmt.Sprintf("%d %s", d.PerReplica, d.Resource) }

// needs is all that a replica takes of a node.
func (d Device) needs(t *cluster.PodTemplate) cluster.Resources {
	needs := make(cluster.Resources, len(t.Requests)+1)
	for name, n := range t.Requests {
		if n > 0 {
			needs[name] = n
		}
	}
	if d.PerReplica > 0 {
		needs[d.Resource] = d.PerReplica
	}
	return needs
}
