package capacity

import (
	"cmp"
	"container/heap"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
)

// share grants one replica at a time to the first claim in the order of compare.
func (p *Plan) share() {
	queue := &claims{}
	for _, m := range p.members {
		if m.Claim > m.bound {
			*queue = append(*queue, m)
		}
	}
	heap.Init(queue)
	for queue.Len() > 0 {
		m := (*queue)[0]
		if !p.grant(m) || m.bound+m.granted >= m.Claim {
			heap.Pop(queue)
		} else {
			heap.Fix(queue, 0)
		}
	}
}

// grant grants a workload one more replica; false if none fits.
func (p *Plan) grant(m *member) bool {
	left, _ := p.quotaLeft(m)
	if left+int64(m.pendingPods) <= 0 {
		return false
	}
	place := p.place(m)
	switch {
	case place >= 0:
		for _, n := range m.needs {
			if m.unrequested != nil && n.name == m.Device.Resource && !m.Device.Requested {
				m.unrequested[place] += n.amount
			} else {
				n.free[place] -= n.amount
			}
		}
		if m.onePerNode {
			if m.occupied == nil {
				m.occupied = map[int]bool{}
			}
			m.occupied[place] = place < len(p.inventory.Nodes)
		}
	case m.headroom >= m.Device.PerReplica:
		m.headroom -= m.Device.PerReplica
	default:
		return false
	}
	p.charge(m)
	m.granted++
	return true
}

// place returns where the next replica goes: the node with most free devices, or else the
// pool with most; negative if none fits.
func (p *Plan) place(m *member) int {
	nodes := len(p.inventory.Nodes)
	if !m.nodesFull {
		if i := m.mostFree(p.free[m.Device.Resource], 0, nodes); i >= 0 {
			return i
		}
		m.nodesFull = true // for good: grants only take devices
	}
	return m.mostFree(p.free[m.Device.Resource], nodes, len(m.eligible))
}

func (m *member) mostFree(devices []int64, from, to int) int {
	best, most := -1, int64(0)
	for i := from; i < to; i++ {
		if free := devices[i] - m.unrequestedAt(i); m.eligible[i] && free > most && m.fits(i) > 0 {
			best, most = i, free
		}
	}
	return best
}

// fits returns how many replicas fit into the free amounts of a place.
func (m *member) fits(place int) int64 {
	if m.occupied[place] {
		return 0
	}
	most := unlimited
	if m.onePerNode {
		most = 1
	}
	for _, n := range m.needs {
		free := n.free[place]
		if n.name == m.Device.Resource {
			free -= m.unrequestedAt(place)
		}
		if most = min(most, free/n.amount); most <= 0 {
			return 0
		}
	}
	return most
}

// unrequestedAt returns how many of the devices at a place the namespace's pods use without
// requesting them.
func (m *member) unrequestedAt(place int) int64 {
	if m.unrequested == nil {
		return 0
	}
	return m.unrequested[place]
}

// claims is a heap of the workloads that claim more replicas than they have.
type claims []*member

func (c claims) Len() int           { return len(c) }
func (c claims) Swap(i, j int)      { c[i], c[j] = c[j], c[i] }
func (c claims) Less(i, j int) bool { return c[i].compare(c[j]) < 0 }
func (c *claims) Push(x any)        { *c = append(*c, x.(*member)) }

func (c *claims) Pop() any {
	last := (*c)[len(*c)-1]
	*c = (*c)[:len(*c)-1]
	return last
}

// compare orders claims: by priority, by whether the next replica is in spec.replicas
// already, by the devices held so far, and then by constant properties.
func (m *member) compare(o *member) int {
	return cmp.Or(
		cmp.Compare(o.Template.Priority, m.Template.Priority),
		cmp.Compare(o.awaitsBinding(), m.awaitsBinding()),
		cmp.Compare(m.devices(), o.devices()),
		cmp.Compare(m.Device.PerReplica, o.Device.PerReplica),
		cmp.Compare(m.Namespace, o.Namespace),
		cmp.Compare(m.ScaledObject, o.ScaledObject),
	)
}

func (m *member) devices() int64 { return int64(m.bound+m.granted) * amount(m.Device.PerReplica) }

// awaitsBinding returns 1 if the next replica is in spec.replicas already and only its pod is
// not bound yet.
func (m *member) awaitsBinding() int {
	if m.Replicas > m.bound+m.granted {
		return 1
	}
	return 0
}

// budget is the unused part of a ResourceQuota.
type budget struct {
	name             string
	requests, limits cluster.Resources
	unmodelled       string
}

func budgets(quotas []*cluster.Quota) map[string][]*budget {
	out := map[string][]*budget{}
	for _, q := range quotas {
		out[q.Namespace] = append(out[q.Namespace], &budget{
			name: q.Name, unmodelled: q.Unmodelled,
			requests: left(q.Requests, q.Requested), limits: left(q.Limits, q.Limited),
		})
	}
	return out
}

func left(hard, used cluster.Resources) cluster.Resources {
	out := make(cluster.Resources, len(hard))
	for name, n := range hard {
		out[name] = amount(n) - amount(used[name])
	}
	return out
}

// quotaLeft returns how many more pods the ResourceQuotas allow, and the one that allows
// the fewest.
func (p *Plan) quotaLeft(m *member) (most int64, quota string) {
	most = unlimited
	for _, b := range p.quotas[m.Namespace] {
		if b.unmodelled != "" {
			continue // it may not count these pods
		}
		for name, left := range b.requests {
			if n := m.Template.Requests[name]; n > 0 && left/n < most {
				most, quota = left/n, b.name
			}
		}
		for name, left := range b.limits {
			if n := m.Template.Limits[name]; n > 0 && left/n < most {
				most, quota = left/n, b.name
			}
		}
	}
	return max(most, 0), quota
}

// charge subtracts a replica from the ResourceQuotas, unless they count its pod already.
func (p *Plan) charge(m *member) {
	if m.pendingPods > 0 {
		m.pendingPods--
		return
	}
	for _, b := range p.quotas[m.Namespace] {
		for name := range b.requests {
			b.requests[name] -= amount(m.Template.Requests[name])
		}
		for name := range b.limits {
			b.limits[name] -= amount(m.Template.Limits[name])
		}
	}
}
