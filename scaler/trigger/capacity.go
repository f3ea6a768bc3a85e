package trigger

import (
	"regexp"
	"slices"
	"strconv"
)

// CapacityMode says what is made of the room that the cluster has for a workload.
type CapacityMode string

// The modes of gpuCapacity.
const (
	// CapacityAuto limits the answer where no node autoscaler may make room, or where
	// it is known how much.
	CapacityAuto CapacityMode = "auto"
	// CapacityClamp limits it to what there is, and the headroom.
	CapacityClamp CapacityMode = "clamp"
	// CapacityObserve says what there is, and changes nothing.
	CapacityObserve CapacityMode = "observe"
	// CapacityOff does not look.
	CapacityOff CapacityMode = "off"
)

var capacityModes = []CapacityMode{CapacityAuto, CapacityClamp, CapacityObserve, CapacityOff}

// Capacity is what a trigger says of its replicas' GPUs.
type Capacity struct {
	Mode CapacityMode
	// Resource that the replicas hold; empty: what the pod template requests.
	Resource string
	// PerReplica is how many a replica holds whose pods request none; 0: none.
	PerReplica int64
	// Headroom is how many more a node autoscaler may add.
	Headroom int64
}

// Said is the first key by which a trigger asks for its GPUs to be counted, with its
// value; empty where it leaves that to the defaults, or off.
func (c Capacity) Said() (key, value string) {
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

// resourceName is what Kubernetes calls extended resources.
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
	p.whole("gpusPerReplica", &c.PerReplica, 1, maxPerReplica)
	p.whole("gpuHeadroom", &c.Headroom, 0, maxHeadroom)
	for _, key := range []string{"gpuResource", "gpusPerReplica", "gpuHeadroom"} {
		if p.values[key] != "" && c.Mode == CapacityOff {
			p.failf(key, "means nothing beside gpuCapacity: off")
		}
	}
	return c
}

func (p *parser) whole(key string, to *int64, low, high int64) {
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
