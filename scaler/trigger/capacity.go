package trigger

import (
	"regexp"
	"slices"
	"strconv"
)

// CapacityMode says how the capacity of the cluster affects a decision.
type CapacityMode string

// The modes of gpuCapacity.
const (
	// CapacityAuto limits the replicas if no node autoscaler adds GPUs, or if its limit is
	// known.
	CapacityAuto CapacityMode = "auto"
	// CapacityClamp limits the replicas to the existing GPUs and the headroom.
	CapacityClamp CapacityMode = "clamp"
	// CapacityObserve reports the capacity without a limit.
	CapacityObserve CapacityMode = "observe"
	// CapacityOff disables the capacity rule.
	CapacityOff CapacityMode = "off"
)

var capacityModes = []CapacityMode{CapacityAuto, CapacityClamp, CapacityObserve, CapacityOff}

// Capacity holds the GPU settings of a trigger.
type Capacity struct {
	Mode CapacityMode
	// Resource is the resource that a replica holds; empty: the one that the pod template
	// requests.
	Resource string
	// PerReplica is the number of devices of a replica whose pods request none; 0: none.
	PerReplica int64
	// Headroom is how many devices a node autoscaler may add.
	Headroom int64
}

// Declared returns the first key that requires GPUs to be counted, with its value; empty if
// the trigger sets none.
func (c Capacity) Declared() (key, value string) {
	switch {
	case c.Mode == CapacityClamp || c.Mode == CapacityObserve:
		return "gpuCapacity", string(c.Mode)
	case c.Resource != "":
		return "gpuResource", c.Resource
	case c.PerReplica > 0:
		return "gpusPerReplica", strconv.FormatInt(c.PerReplica, 10)
	case c.Headroom > 0:
		return "gpuHeadroom", strconv.FormatInt(c.Headroom, 10)
	}
	return "", ""
}

const (
	maxPerReplica = 1024
	maxHeadroom   = 1_000_000
)

// resourceName matches the names of extended resources.
var resourceName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`)

func (p *parser) capacity() Capacity {
	c := Capacity{Mode: CapacityAuto}
	if text, ok := p.values["gpuCapacity"]; ok {
		c.Mode = CapacityMode(text)
		if !slices.Contains(capacityModes, c.Mode) {
			p.failf("gpuCapacity", "%q; wanted: auto, clamp, observe or off", clip(text))
		}
	}
	if text, ok := p.values["gpuResource"]; ok {
		if len(text) > maxName || !resourceName.MatchString(text) {
			p.failf("gpuResource", "%q; wanted: the name of a resource, such as nvidia.com/gpu", clip(text))
		}
		c.Resource = text
	}
	p.integer("gpusPerReplica", &c.PerReplica, 1, maxPerReplica)
	p.integer("gpuHeadroom", &c.Headroom, 0, maxHeadroom)
	for _, key := range []string{"gpuResource", "gpusPerReplica", "gpuHeadroom"} {
		if p.values[key] != "" && c.Mode == CapacityOff {
			p.failf(key, "has no effect with gpuCapacity: off")
		}
	}
	return c
}

func (p *parser) integer(key string, to *int64, low, high int64) {
	text, ok := p.values[key]
	if !ok {
		return
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < low || n > high {
		p.failf(key, "%q; wanted: a whole number from %d to %d", clip(text), low, high)
		return
	}
	*to = n
}
