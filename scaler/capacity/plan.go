package capacity

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
)

// Workload is a workload whose replicas hold devices. Its Template must not be nil, and its
// Device.PerReplica must be positive.
type Workload struct {
	*cluster.Workload
	Device Device
	// Claim is the desired number of replicas, within the bounds of its ScaledObject.
	Claim int
	// Headroom counts the devices that a node autoscaler will add for it.
	Headroom int64
	// Pools: it may also grow on nodes that the node autoscaler has not added yet.
	Pools bool
}

// Planner makes Plans, and caches node eligibility between them. The zero Planner is ready
// for use. It is not safe for concurrent use.
type Planner struct {
	nodes map[object]*eligibleNodes
	specs []*cluster.NodeSpec // replaced only when its contents change
}

type object struct{ namespace, name string }

// unlimited exceeds every real amount. Sums of thousands of them do not overflow.
const unlimited = int64(1) << 48

// Plan holds the Allocation of every workload. It is immutable.
type Plan struct {
	inventory *cluster.Inventory
	// free holds the free amounts by resource and place. Places are the nodes in the order of
	// the inventory, then the pools. offered is free before the first grant.
	free, offered map[string][]int64
	quotas        map[string][]*budget // by namespace
	members       []*member
	index         map[object]*member
	repelling     []repellingPod
	unrequested   map[namespaceDevice][]int64
}

// namespaceDevice is a device of the pods of one namespace.
type namespaceDevice struct{ namespace, resource string }

// member is a workload in a Plan.
type member struct {
	Workload
	needs      []need
	eligible   []bool       // by place
	onePerNode bool         // two of its pods cannot share a node
	occupied   map[int]bool // places with a granted replica, if onePerNode
	nodesFull  bool         // no node fits another replica
	// unrequested counts, by place, the devices that the namespace's pods use without
	// requesting them; nil if there are none. Only workloads of the namespace subtract them:
	// they are declared by a tenant's trigger, and the scheduler cannot see them.
	unrequested []int64
	mismatched  bool // some of its pods run on nodes that its template does not select
	preempts    int  // eligible nodes where pods of lower priority hold its devices
	bound       int
	terminating int // terminating pods on nodes that accept their replacements
	pendingPods int // unbound pods, which ResourceQuotas count already
	headroom    int64
	granted     int
}

// need is the amount of a resource that a replica takes, and the free amounts by place.
type need struct {
	name   string
	amount int64
	free   []int64
}

// Plan shares the free devices one replica at a time: by priority first, then by max-min
// fairness in devices. Bound pods always keep theirs. Replicas in spec.replicas whose pods
// are not bound yet precede others of the same priority, because the scheduler binds their
// pods next.
//
// A replica is placed where most devices are free, as the scheduler spreads pods. The
// devices that remain for larger replicas may be underestimated, and never overestimated.
func (p *Planner) Plan(inv *cluster.Inventory, workloads []Workload) *Plan {
	plan := &Plan{
		inventory: inv, free: map[string][]int64{}, offered: map[string][]int64{},
		quotas: budgets(inv.Quotas), index: map[object]*member{}, repelling: repellingPods(inv.Nodes),
		unrequested: map[namespaceDevice][]int64{},
	}
	lowest := map[string][]int32{} // priorities, by resource
	workloads = slices.Clone(workloads)
	slices.SortFunc(workloads, func(a, b Workload) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.ScaledObject, b.ScaledObject))
	})
	if specs := specsOf(inv.Nodes); !slices.Equal(p.specs, specs) {
		p.specs = specs
	}
	for _, w := range workloads {
		if lowest[w.Device.Resource] == nil {
			lowest[w.Device.Resource] = plan.lowestOn(w.Device.Resource)
		}
		m := plan.member(w, p.eligibleNodes(w), lowest[w.Device.Resource])
		plan.members = append(plan.members, m)
		plan.index[object{w.Namespace, w.ScaledObject}] = m
		for i := range m.needs {
			m.needs[i].free = plan.column(m.needs[i].name)
		}
	}
	p.prune()
	plan.countUnrequested()
	for _, m := range plan.members {
		if plan.offered[m.Device.Resource] == nil {
			plan.offered[m.Device.Resource] = slices.Clone(plan.free[m.Device.Resource])
		}
	}
	plan.share()
	return plan
}

// eligibleNodes returns the nodes that a workload may run on.
func (p *Planner) eligibleNodes(w Workload) *eligibleNodes {
	key := object{w.Namespace, w.ScaledObject}
	if p.nodes == nil {
		p.nodes = map[object]*eligibleNodes{}
	}
	f := p.nodes[key]
	if f == nil {
		f = &eligibleNodes{}
		p.nodes[key] = f
	}
	f.used = true
	f.update(w.Template, p.specs)
	return f
}

// member evaluates where a workload may run, by its template and by the pods on each node.
// lowest holds, by node, the lowest priority of the pods that hold its devices.
func (p *Plan) member(w Workload, nodes *eligibleNodes, lowest []int32) *member {
	inv := p.inventory
	m := &member{Workload: w, bound: w.Bound(), headroom: amount(w.Headroom), eligible: make([]bool, len(inv.Nodes)+len(inv.Autoscaler.Pools))}
	for name, amount := range w.Device.needs(w.Template) {
		m.needs = append(m.needs, need{name: name, amount: amount})
	}
	// Names of devices are the longest. They come first because they are the scarcest.
	slices.SortFunc(m.needs, func(a, b need) int {
		return cmp.Or(cmp.Compare(len(b.name), len(a.name)), cmp.Compare(a.name, b.name))
	})
	copy(m.eligible, nodes.eligible)
	if !w.Template.PreemptsNever {
		for i, priority := range lowest {
			if m.eligible[i] && priority < w.Template.Priority {
				m.preempts++
			}
		}
	}
	var blocked []bool
	blocked, m.onePerNode = conflicts(w.Namespace, w.Template, inv.Nodes, p.repelling)
	for i, b := range blocked {
		m.eligible[i] = m.eligible[i] && !b
	}
	if w.Pools {
		for i := range inv.Autoscaler.Pools {
			m.eligible[len(inv.Nodes)+i] = nodes.matchesPool(&inv.Autoscaler.Pools[i])
		}
	}
	for _, pod := range w.Pods {
		i, known := p.placeOf(pod.Node)
		switch {
		case pod.Finished():
		case pod.Bound():
			m.mismatched = m.mismatched || known && !nodes.eligible[i] && !nodes.selects(inv.Nodes[i].NodeSpec)
		case !pod.Terminating:
			m.pendingPods++
		case known && nodes.eligible[i]:
			m.terminating++
		}
	}
	return m
}

// placeOf returns the place of a node; false if the inventory has no such node.
func (p *Plan) placeOf(node string) (place int, known bool) {
	return slices.BinarySearchFunc(p.inventory.Nodes, node, func(n *cluster.Node, name string) int { return cmp.Compare(n.Name, name) })
}

// prune drops the cached nodes of workloads that were not in the last plan.
func (p *Planner) prune() {
	for key, f := range p.nodes {
		if !f.used {
			delete(p.nodes, key)
		}
		f.used = false
	}
}

// column returns the free amounts of a resource, by place. Members share it.
func (p *Plan) column(name string) []int64 {
	if p.free[name] == nil {
		p.free[name] = p.unallocated(name)
	}
	return p.free[name]
}

// unallocated returns the amounts of a resource that no pod holds, by place.
func (p *Plan) unallocated(name string) []int64 {
	nodes, pools := p.inventory.Nodes, p.inventory.Autoscaler.Pools
	free := make([]int64, 0, len(nodes)+len(pools))
	for _, n := range nodes {
		free = append(free, amount(n.Allocatable[name])-amount(n.Held[name]))
	}
	for _, pool := range pools {
		left, limited := pool.Left[name]
		if !limited {
			left = unlimited
		}
		free = append(free, amount(left))
	}
	return free
}

// amount clamps a value of the inventory, so that sums do not overflow.
func amount(n int64) int64 { return min(max(n, 0), unlimited) }

// countUnrequested counts the devices that pods use without requesting them, as their
// triggers declare.
func (p *Plan) countUnrequested() {
	for _, m := range p.members {
		if m.Device.Requested {
			continue
		}
		key := namespaceDevice{m.Namespace, m.Device.Resource}
		if p.unrequested[key] == nil {
			p.unrequested[key] = make([]int64, len(m.eligible))
		}
		for _, pod := range m.Pods {
			if i, known := p.placeOf(pod.Node); known && !pod.Finished() {
				p.unrequested[key][i] += amount(m.Device.PerReplica)
			}
		}
	}
	for _, m := range p.members {
		m.unrequested = p.unrequested[namespaceDevice{m.Namespace, m.Device.Resource}]
	}
}

// lowestOn returns, by node, the lowest priority of the pods that request a resource.
func (p *Plan) lowestOn(resource string) []int32 {
	lowest := make([]int32, len(p.inventory.Nodes))
	for i, n := range p.inventory.Nodes {
		lowest[i] = math.MaxInt32
		for _, pod := range n.Pods {
			if pod.Requests[resource] > 0 {
				lowest[i] = min(lowest[i], pod.Priority)
			}
		}
	}
	return lowest
}

// Allocation returns that of a workload; false if the workload is not in the plan.
func (p *Plan) Allocation(namespace, scaledObject string) (Allocation, bool) {
	m := p.index[object{namespace, scaledObject}]
	if m == nil {
		return Allocation{}, false
	}
	return p.allocation(m), true
}

// Leftover returns the Allocation of a workload that is not in the plan.
func (p *Plan) Leftover(w Workload) Allocation {
	var f eligibleNodes
	f.update(w.Template, specsOf(p.inventory.Nodes))
	m := p.member(w, &f, p.lowestOn(w.Device.Resource))
	m.unrequested = p.unrequested[namespaceDevice{w.Namespace, w.Device.Resource}]
	for i, n := range m.needs {
		if m.needs[i].free = p.free[n.name]; m.needs[i].free == nil {
			m.needs[i].free = p.unallocated(n.name)
		}
	}
	return p.allocation(m)
}

func (p *Plan) allocation(m *member) Allocation {
	a := Allocation{Bound: m.bound, Device: m.Device, Free: m.headroom}
	free := m.free(m.Device.Resource)
	offered := p.offered[m.Device.Resource]
	if offered == nil {
		offered = free
	}
	more, taken, advertised := int64(0), int64(0), false
	for i, eligible := range m.eligible {
		node := i < len(p.inventory.Nodes)
		advertised = advertised || (eligible || m.Device.Requested && node) && (!node || p.inventory.Nodes[i].Allocatable[m.Device.Resource] > 0)
		if !eligible {
			continue
		}
		more += m.fits(i)
		a.Free += max(offered[i]-m.unrequestedAt(i), 0)
		taken += max(offered[i], 0) - max(free[i], 0)
	}
	more += m.headroom / m.Device.PerReplica
	if m.Device.Requested {
		taken -= int64(m.granted) * m.Device.PerReplica
	}
	a.Claimed = max(taken, 0)
	if left, quota := p.quotaLeft(m); left+int64(m.pendingPods) < more {
		more, a.Quota = left+int64(m.pendingPods), quota
	}
	more = int64(m.granted) + min(more, maxAdditional)
	// During a rollout, terminating pods hold the devices that their replacements need.
	a.Replacing = int(max(0, min(int64(m.Replicas-m.bound), more+int64(m.terminating))-more))
	a.Replicas = m.bound + int(more) + a.Replacing
	a.Unknown = p.unknown(m, advertised)
	for i, pool := range p.inventory.Autoscaler.Pools {
		if _, limited := pool.Left[m.Device.Resource]; !limited && m.eligible[len(p.inventory.Nodes)+i] {
			a.Unlimited = pool.Name
		}
	}
	return a
}

// free returns the free amounts of a resource that the member needs, by place.
func (m *member) free(resource string) []int64 {
	for _, n := range m.needs {
		if n.name == resource {
			return n.free
		}
	}
	return nil
}

// maxAdditional limits the replicas that are counted in addition to the bound ones.
const maxAdditional = 1_000_000

func (p *Plan) unknown(m *member, advertised bool) string {
	all := slices.Clone(m.Template.Unmodelled)
	if why := cmp.Or(p.inventory.NoQuotas[m.Namespace], p.inventory.NoQuotas[""]); why != "" {
		all = append(all, "ResourceQuotas ("+why+")")
	}
	for _, b := range p.quotas[m.Namespace] {
		if b.unmodelled != "" {
			all = append(all, "ResourceQuota "+b.name+" ("+b.unmodelled+")")
		}
	}
	if !advertised && m.Headroom == 0 {
		all = append(all, "no node advertises "+m.Device.Resource)
	}
	if m.mismatched {
		all = append(all, "pods that run on nodes which the pod template does not select")
	}
	if m.preempts > 0 {
		all = append(all, fmt.Sprintf("preemption of pods of lower priority on %d nodes", m.preempts))
	}
	return strings.Join(all, ", ")
}
