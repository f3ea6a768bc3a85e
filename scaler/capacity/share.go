package capacity

import (
	"cmp"
	"container/heap"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
)

// share grants one replica at a time to the claim that comes first.
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

// grant gives a workload room for one more replica, if there is any.
func (p *Plan) grant(m *member) bool {
	left, _ := p.affords(m)
	if left+int64(m.prepaid) <= 0 {
		return false
	}
	place := p.place(m)
	switch {
	case place >= 0:
		for _, n := range m.needs {
			if m.silent != nil && n.name == m.Device.Resource && !m.Device.Requested {
				m.silent[place] += n.amount
			} else {
				n.free[place] -= n.amount
			}
		}
		if m.lonely {
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
	p.pay(m)
	m.granted++
	return true
}

// place is where the next replica goes: to the node with most devices free, or else to
// the pool; negative: nowhere.
func (p *Plan) place(m *member) int {
	nodes := len(p.inventory.Nodes)
	if !m.full {
		if i := m.roomiest(p.free[m.Device.Resource], 0, nodes); i >= 0 {
			return i
		}
		m.full = true // nothing comes free while there is sharing
	}
	return m.roomiest(p.free[m.Device.Resource], nodes, len(m.may))
}

func (m *member) roomiest(devices []int64, from, to int) int {
	best, most := -1, int64(0)
	for i := from; i < to; i++ {
		if free := devices[i] - m.taken(i); m.may[i] && free > most && m.holds(i) > 0 {
			best, most = i, free
		}
	}
	return best
}

// holds is how many replicas go on what is free at a place.
func (m *member) holds(place int) int64 {
	if m.occupied[place] {
		return 0
	}
	most := unlimited
	if m.lonely {
		most = 1
	}
	for _, n := range m.needs {
		free := n.free[place]
		if n.name == m.Device.Resource {
			free -= m.taken(place)
		}
		if most = min(most, free/n.amount); most <= 0 {
			return 0
		}
	}
	return most
}

// taken is what pods of the namespace hold of its devices at a place, without a request.
func (m *member) taken(place int) int64 {
	if m.silent == nil {
		return 0
	}
	return m.silent[place]
}

// claims are the workloads that ask for more, the one that comes first in front.
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

// compare orders claims: by priority, by who has been given the next replica already, by
// the devices that each would have without it, and then by what never changes.
func (m *member) compare(o *member) int {
	return cmp.Or(
		cmp.Compare(o.Template.Priority, m.Template.Priority),
		cmp.Compare(o.given(), m.given()),
		cmp.Compare(m.devices(), o.devices()),
		cmp.Compare(m.Device.PerReplica, o.Device.PerReplica),
		cmp.Compare(m.Namespace, o.Namespace),
		cmp.Compare(m.ScaledObject, o.ScaledObject),
	)
}

func (m *member) devices() int64 { return int64(m.bound+m.granted) * amount(m.Device.PerReplica) }

// given is 1 where the workload has been given the next replica already, and only its
// pod is not bound yet.
func (m *member) given() int {
	if m.Replicas > m.bound+m.granted {
		return 1
	}
	return 0
}

// budget is what a quota leaves.
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

// affords is how many more pods the quotas leave room for, and which one leaves least.
func (p *Plan) affords(m *member) (most int64, quota string) {
	most = unlimited
	for _, b := range p.quotas[m.Namespace] {
		if b.unmodelled != "" {
			continue // nobody knows whether it counts these pods
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

// pay takes a replica out of the quotas, unless its pod is there already.
func (p *Plan) pay(m *member) {
	if m.prepaid > 0 {
		m.prepaid--
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
