package decision

import (
	"fmt"

	"github.com/inference-scaler/inference-scaler/scaler/hpa"
)

// Capacity is how many replicas of the workload the cluster has room for.
type Capacity struct {
	Asked bool // its replicas hold devices of which there are only so many
	// Err says why it is not known; empty where it is.
	Err string
	// Replicas are those that there is room for, and Why what that is made of.
	Replicas int
	Why      string
	// Observed says why no number is changed for it; empty where it is a limit.
	Observed string
	// Most is the workload's maxReplicaCount: what is asked for beyond it nobody will give.
	Most int
}

// Limits reports whether the room is known, and a limit.
func (c Capacity) Limits() bool { return c.Asked && c.Err == "" && c.Observed == "" }

// capacity (rule 6) asks for no more replicas than there is room for.
func (d *deciding) capacity() {
	d.out.Demanded = replicas(d.value, d.in.Policy.Target)
	c := d.in.Capacity
	if !c.Asked {
		return
	}
	if c.Err != "" {
		d.note("capacity", "not known, and so no limit: %s", c.Err)
		return
	}
	if d.out.Demanded <= c.Replicas || c.Most > 0 && c.Most <= c.Replicas {
		return
	}
	if c.Observed != "" {
		d.note("capacity", "there is room for %d (%s); no limit, as %s", c.Replicas, c.Why, c.Observed)
		return
	}
	d.out.Limited = true
	value, hint := d.limitedTo(c.Replicas)
	d.step("capacity", value, "there is room for %d (%s)%s", c.Replicas, c.Why, hint)
}

// limitedTo returns the value that makes the HPA have n replicas. The HPA's tolerance
// may cover that value if it has some replicas more; a smaller value that still rounds
// up to n is taken then. The default tolerance is assumed: an HPA with a smaller one
// follows either value.
func (d *deciding) limitedTo(n int) (value float64, hint string) {
	target, current := d.in.Policy.Target, d.in.Replicas
	limited, ok := hpa.ValueFor(n, current, hpa.Milli(target), hpa.TolerancesOf(nil))
	whole := float64(n) * target
	switch {
	case !ok:
		return whole, fmt.Sprintf("; the HPA will not follow from %d, but with a tolerance of 0", current)
	case limited == hpa.Milli(target)*int64(n):
		return whole, ""
	}
	value = float64(limited) / 1000
	return value, fmt.Sprintf("; %s is beyond the HPA's tolerance of 10 %% from %d", number(value), current)
}
