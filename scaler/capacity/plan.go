package capacity

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
)

// Workload is one that wants room. Its Template must be known, and its Device hold something.
type Workload struct {
	*cluster.Workload
	Device Device
	// Claim is how many replicas it asks for, within what its ScaledObject lets it have.
	Claim int
	// Headroom are the devices that will be added for it.
	Headroom int64
	// Pools: it may also grow on nodes that the cluster's autoscaler has yet to add.
	Pools bool
}

// Planner shares room, and remembers from one time to the next what costs much to find
// out. The zero Planner is fit for use, by one goroutine at a time.
type Planner struct {
	nodes map[object]*nodesFor
	specs []*cluster.NodeSpec // the same list for as long as it is equal
}

type object struct{ namespace, name string }

// unlimited is an amount that nothing exceeds, and that may be added to.
const unlimited = int64(1) << 48

// Plan is who gets what. It is immutable once it is made.
type Plan struct {
	inventory *cluster.Inventory
	// free is what is free, by resource and place: nodes in the inventory's order, then
	// pools. offered is what was before any of it was granted.
	free, offered map[string][]int64
	quotas        map[string][]*budget // by namespace
	members       []*member
	index         map[object]*member
	shy           []shyPod
	silent        map[silence][]int64
}

// silence is whose word it is about which devices.
type silence struct{ namespace, resource string }

// member is a workload with its share.
type member struct {
	Workload
	needs    []need
	may      []bool       // by place
	lonely   bool         // one replica a node
	occupied map[int]bool // places where a lonely one has been granted
	full     bool         // no node has room for another one
	// silent is what pods of the namespace hold of its devices, by place, without a
	// request: nobody else takes their word for it, nor does the scheduler. nil: nothing.
	silent   []int64
	odd      bool // pods of it run where its template does not let them
	preempts int  // nodes where it may run, and pods of lower priority hold its devices
	bound    int
	leaving  int // pods that end, on nodes where others of it may follow them
	prepaid  int // pods that exist, and that no node has taken yet: quotas count them
	headroom int64
	granted  int
}

// need is what a replica takes of a resource, and what is free of that by place.
type need struct {
	name   string
	amount int64
	free   []int64
}

// Plan shares what is free: first by priority, then max-min in devices, a replica at a
// time. Replicas that have been given already, and whose pods only wait to be bound, go
// before others: the scheduler will not wait either. Nobody loses what is bound.
//
// A replica goes where most devices are free, as the scheduler spreads pods: what it
// leaves for larger replicas may be too little for a moment, and never too much.
func (p *Planner) Plan(inv *cluster.Inventory, workloads []Workload) *Plan {
	plan := &Plan{
		inventory: inv, free: map[string][]int64{}, offered: map[string][]int64{},
		quotas: budgets(inv.Quotas), index: map[object]*member{}, shy: shyPods(inv.Nodes),
		silent: map[silence][]int64{},
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
		m := plan.member(w, p.nodesFor(w), lowest[w.Device.Resource])
		plan.members = append(plan.members, m)
		plan.index[object{w.Namespace, w.ScaledObject}] = m
		for i := range m.needs {
			m.needs[i].free = plan.column(m.needs[i].name)
		}
	}
	p.forget()
	plan.listen()
	for _, m := range plan.members {
		if plan.offered[m.Device.Resource] == nil {
			plan.offered[m.Device.Resource] = slices.Clone(plan.free[m.Device.Resource])
		}
	}
	plan.share()
	return plan
}

// nodesFor says which nodes a workload may run on.
func (p *Planner) nodesFor(w Workload) *nodesFor {
	key := object{w.Namespace, w.ScaledObject}
	if p.nodes == nil {
		p.nodes = map[object]*nodesFor{}
	}
	f := p.nodes[key]
	if f == nil {
		f = &nodesFor{}
		p.nodes[key] = f
	}
	f.used = true
	f.update(w.Template, p.specs)
	return f
}

// member is a workload with where it may run; by itself, and beside what runs there.
// lowest are the lowest priorities of pods that hold its devices, by node.
func (p *Plan) member(w Workload, by *nodesFor, lowest []int32) *member {
	inv := p.inventory
	m := &member{Workload: w, bound: w.Bound(), headroom: amount(w.Headroom), may: make([]bool, len(inv.Nodes)+len(inv.Autoscaler.Pools))}
	for name, amount := range w.Device.needs(w.Template) {
		m.needs = append(m.needs, need{name: name, amount: amount})
	}
	// The scarcest first: where there are no devices nothing else is looked at.
	slices.SortFunc(m.needs, func(a, b need) int {
		return cmp.Or(cmp.Compare(len(b.name), len(a.name)), cmp.Compare(a.name, b.name))
	})
	copy(m.may, by.nodes)
	if !w.Template.PreemptsNever {
		for i, priority := range lowest {
			if m.may[i] && priority < w.Template.Priority {
				m.preempts++
			}
		}
	}
	var blocked []bool
	blocked, m.lonely = conflicts(w.Namespace, w.Template, inv.Nodes, p.shy)
	for i, b := range blocked {
		m.may[i] = m.may[i] && !b
	}
	if w.Pools {
		for i := range inv.Autoscaler.Pools {
			m.may[len(inv.Nodes)+i] = by.joins(&inv.Autoscaler.Pools[i])
		}
	}
	for _, pod := range w.Pods {
		i, known := p.at(pod.Node)
		switch {
		case pod.Finished():
		case pod.Bound():
			m.odd = m.odd || known && !by.nodes[i] && !by.wants(inv.Nodes[i].NodeSpec)
		case !pod.Terminating:
			m.prepaid++
		case known && by.nodes[i]:
			m.leaving++
		}
	}
	return m
}

// at is the place of a node; false where there is none of that name.
func (p *Plan) at(node string) (place int, known bool) {
	return slices.BinarySearchFunc(p.inventory.Nodes, node, func(n *cluster.Node, name string) int { return cmp.Compare(n.Name, name) })
}

// forget drops what is remembered of workloads that are gone.
func (p *Planner) forget() {
	for key, f := range p.nodes {
		if !f.used {
			delete(p.nodes, key)
		}
		f.used = false
	}
}

// column is what is free of a resource, by place.
func (p *Plan) column(name string) []int64 {
	if p.free[name] == nil {
		p.free[name] = p.unheld(name)
	}
	return p.free[name]
}

// unheld is what nobody holds.
func (p *Plan) unheld(name string) []int64 {
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

// amount bounds what is read, so that sums of it stay numbers.
func amount(n int64) int64 { return min(max(n, 0), unlimited) }

// listen notes what pods hold without a request for it, as their triggers say.
func (p *Plan) listen() {
	for _, m := range p.members {
		if m.Device.Requested {
			continue
		}
		key := silence{m.Namespace, m.Device.Resource}
		if p.silent[key] == nil {
			p.silent[key] = make([]int64, len(m.may))
		}
		for _, pod := range m.Pods {
			if i, known := p.at(pod.Node); known && !pod.Finished() {
				p.silent[key][i] += amount(m.Device.PerReplica)
			}
		}
	}
	for _, m := range p.members {
		m.silent = p.silent[silence{m.Namespace, m.Device.Resource}]
	}
}

// lowestOn is the lowest priority, by node, of the pods that hold some of a resource.
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

// Room says what came of it for a workload; false where the plan knows none such.
func (p *Plan) Room(namespace, scaledObject string) (Room, bool) {
	m := p.index[object{namespace, scaledObject}]
	if m == nil {
		return Room{}, false
	}
	return p.room(m), true
}

// Leftover says what room there is for a workload that had no part in the sharing.
func (p *Plan) Leftover(w Workload) Room {
	var f nodesFor
	f.update(w.Template, specsOf(p.inventory.Nodes))
	m := p.member(w, &f, p.lowestOn(w.Device.Resource))
	m.silent = p.silent[silence{w.Namespace, w.Device.Resource}]
	for i, n := range m.needs {
		if m.needs[i].free = p.free[n.name]; m.needs[i].free == nil {
			m.needs[i].free = p.unheld(n.name)
		}
	}
	return p.room(m)
}

func (p *Plan) room(m *member) Room {
	r := Room{Bound: m.bound, Device: m.Device, Free: m.headroom}
	free := m.free(m.Device.Resource)
	offered := p.offered[m.Device.Resource]
	if offered == nil {
		offered = free
	}
	more, taken, advertised := int64(0), int64(0), false
	for i, may := range m.may {
		node := i < len(p.inventory.Nodes)
		advertised = advertised || (may || m.Device.Requested && node) && (!node || p.inventory.Nodes[i].Allocatable[m.Device.Resource] > 0)
		if !may {
			continue
		}
		more += m.holds(i)
		r.Free += max(offered[i]-m.taken(i), 0)
		taken += max(offered[i], 0) - max(free[i], 0)
	}
	more += m.headroom / m.Device.PerReplica
	if m.Device.Requested {
		taken -= int64(m.granted) * m.Device.PerReplica
	}
	r.Claimed = max(taken, 0)
	if left, quota := p.affords(m); left+int64(m.prepaid) < more {
		more, r.Quota = left+int64(m.prepaid), quota
	}
	more = int64(m.granted) + min(more, maxRoom)
	// What has been given, and waits for pods of its own to leave, is not taken away.
	r.Replacing = int(max(0, min(int64(m.Replicas-m.bound), more+int64(m.leaving))-more))
	r.Replicas = m.bound + int(more) + r.Replacing
	r.Unknown = p.unknown(m, advertised)
	for i, pool := range p.inventory.Autoscaler.Pools {
		if _, limited := pool.Left[m.Device.Resource]; !limited && m.may[len(p.inventory.Nodes)+i] {
			r.Unlimited = pool.Name
		}
	}
	return r
}

// free is what is free of a resource that it needs, by place.
func (m *member) free(resource string) []int64 {
	for _, n := range m.needs {
		if n.name == resource {
			return n.free
		}
	}
	return nil
}

// maxRoom bounds what room is ever counted for, beyond the pods that there are.
const maxRoom = 1_000_000

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
		all = append(all, m.Device.Resource+", which no node advertises")
	}
	if m.odd {
		all = append(all, "what has its pods run on nodes that its template does not select")
	}
	if m.preempts > 0 {
		all = append(all, fmt.Sprintf("preemption of pods of lower priority, on %d nodes", m.preempts))
	}
	return strings.Join(all, ", ")
}
