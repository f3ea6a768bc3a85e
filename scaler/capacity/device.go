package capacity

import (
	"fmt"
	"slices"
	"strings"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
)

// Device is the accelerator that limits the number of replicas.
type Device struct {
	Resource   string // "nvidia.com/gpu"
	PerReplica int64
	// Requested: the pod template requests it. Otherwise only the trigger declares it, and
	// the scheduler does not know that the pods use it.
	Requested bool
}

// accelerators are the name prefixes of the resources that count as GPUs.
var accelerators = []string{"nvidia.com/gpu", "nvidia.com/mig-", "amd.com/gpu", "gpu.intel.com/"}

// defaultResource is used for pods that request no GPU when the trigger sets gpusPerReplica
// and no gpuResource.
const defaultResource = "nvidia.com/gpu"

// DeviceOf returns the devices of a replica. resource and perReplica come from the trigger's
// gpuResource and gpusPerReplica; empty and 0 if not set. The template's requests take
// precedence over them. A PerReplica of 0 means that a replica holds no device.
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

// needs returns all resources that a replica takes of a node.
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
