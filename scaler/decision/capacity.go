package decision

import (
	"fmt"

	"github.com/inference-scaler/inference-scaler/scaler/hpa"
)

// Capacity is how many replicas of the workload the cluster can hold.
type Capacity struct {
	Applies bool // the replicas hold devices, which are limited
	// Err says why the capacity is unknown; empty if it is known.
	Err string
	// Replicas is the number that the cluster can hold, and Why explains it.
	Replicas int
	Why      string
	// Observed says why the capacity does not limit the decision; empty if it does.
	Observed string
	// MaxReplicas is the workload's maxReplicaCount; 0 if unknown. KEDA ignores a higher value.
	MaxReplicas int
}

// Limits reports whether the capacity is known and limits the decision.
func (c Capacity) Limits() bool { return c.Applies && c.Err == "" && c.Observed == "" }

// capacity (rule 6) limits the value to the replicas that the cluster can hold.
func (d *deciding) capacity() {
	d.out.DemandReplicas = replicas(d.value, d.in.Policy.Target)
	c := d.in.Capacity
	if !c.Applies {
		return
	}
	if c.Err != "" {
		d.note("capacity", "unknown, and so not a limit: %s", c.Err)
		return
	}
	if d.out.DemandReplicas <= c.Replicas || c.MaxReplicas > 0 && c.MaxReplicas <= c.Replicas {
		return
	}
	if c.Observed != "" {
		d.note("capacity", "the cluster can hold %d (%s); not a limit: %s", c.Replicas, c.Why, c.Observed)
		return
	}
	d.out.Limited = true
	value, hint := d.limitedTo(c.Replicas)
	d.step("capacity", value, "the cluster can hold %d (%s)%s", c.Replicas, c.Why, hint)
}

// limitedTo returns a value for which the HPA sets n replicas. n times the target may be
// within the HPA's tolerance of the current replicas, which the HPA then keeps. In that case
// a smaller value is used that still rounds up to n. An HPA with a tolerance below the
// default of 10 % accepts both values.
func (d *deciding) limitedTo(n int) (value float64, hint string) {
	target, current := d.in.Policy.Target, d.in.Replicas
	limited, ok := hpa.ValueFor(n, current, hpa.Milli(target), hpa.TolerancesOf(nil))
	whole := float64(n) * target
	switch {
	case !ok:
		return whole, fmt.Sprintf("; the HPA keeps %d, unless its tolerance is 0", current)
	case limited == hpa.Milli(target)*int64(n):
		return whole, ""
	}
	value = float64(limited) / 1000
	return value, fmt.Sprintf("; %s is outside the HPA's tolerance of 10 %% at %d replicas", number(value), current)
}
