package evaluator

import (
	"crypto/sha256"
	"fmt"
	"hash/fnv"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
)

const (
	// maxTriggers bounds the open triggers, and maxPerObject those that calls for one
	// ScaledObject can open.
	maxTriggers  = 20_000
	maxPerObject = 32
	// maxUndeclared bounds, with Kubernetes, the triggers that calls open and no
	// ScaledObject declares: they must not exclude those that are declared.
	maxUndeclared = 1000

	// An undeclared trigger is kept for as long as an operator may call with cached
	// metadata. Without Kubernetes nothing is declared, and it is kept for longer than
	// the slowest poll.
	keepUndeclared = 2 * time.Minute
	keepUnwatched  = 30 * time.Minute
)

// registry indexes the open triggers. Its methods are safe for concurrent use.
type registry struct {
	kubernetes bool
	byHash     sync.Map // of *Trigger: every call reads it, without a lock

	mu       sync.RWMutex
	byObject map[cluster.NamespacedName]map[string]*Trigger // by key
	// followers are the triggers that follow a workload, by the workload's name.
	followers  map[cluster.NamespacedName]map[*Trigger]struct{}
	count      int
	undeclared int // of count
}

func newRegistry(kubernetes bool) *registry {
	return &registry{
		kubernetes: kubernetes,
		byObject:   map[cluster.NamespacedName]map[string]*Trigger{},
		followers:  map[cluster.NamespacedName]map[*Trigger]struct{}{},
	}
}

// find returns an open trigger without a lock. It returns nil if there is none, or if
// another one has the same hash; get finds those.
func (r *registry) find(o cluster.NamespacedName, metadata map[string]string) *Trigger {
	found, ok := r.byHash.Load(hash(o, metadata))
	if !ok {
		return nil
	}
	if t := found.(*Trigger); t.object == o && maps.Equal(t.metadata, metadata) {
		return t
	}
	return nil
}

// get returns an open trigger by its key, or nil.
func (r *registry) get(o cluster.NamespacedName, key string) *Trigger {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.byObject[o][key]
}

// full is an error if no other trigger may be opened.
func (r *registry) full(o cluster.NamespacedName, declared bool) error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.limit(o, declared)
}

func (r *registry) limit(o cluster.NamespacedName, declared bool) error {
	if !declared && (len(r.byObject[o]) >= maxPerObject || r.kubernetes && r.undeclared >= maxUndeclared) || r.count >= maxTriggers {
		return fmt.Errorf("%w: at most %d for a ScaledObject, %d that none declares, and %d in all", ErrTooMany, maxPerObject, maxUndeclared, maxTriggers)
	}
	return nil
}

// add adds a trigger, and gives it its label, unless a limit is reached.
func (r *registry) add(t *Trigger) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.limit(t.object, t.declared.Load()); err != nil {
		return err
	}
	t.label = label(t.spec.MetricName, t.key, r.byObject[t.object])
	if r.byObject[t.object] == nil {
		r.byObject[t.object] = map[string]*Trigger{}
	}
	r.byObject[t.object][t.key] = t
	r.count++
	if !t.declared.Load() {
		r.undeclared++
	}
	if leader, ok := t.leaderName(); ok {
		if r.followers[leader] == nil {
			r.followers[leader] = map[*Trigger]struct{}{}
		}
		r.followers[leader][t] = struct{}{}
	}
	r.byHash.Store(hash(t.object, t.metadata), t)
	return nil
}

// remove removes a trigger. The caller holds the lock.
func (r *registry) remove(t *Trigger) {
	r.byHash.CompareAndDelete(hash(t.object, t.metadata), t)
	if delete(r.byObject[t.object], t.key); len(r.byObject[t.object]) == 0 {
		delete(r.byObject, t.object)
	}
	r.count--
	if !t.declared.Load() {
		r.undeclared--
	}
	if leader, ok := t.leaderName(); ok {
		if delete(r.followers[leader], t); len(r.followers[leader]) == 0 {
			delete(r.followers, leader)
		}
	}
}

// removeAll removes the triggers of a ScaledObject, and returns them.
func (r *registry) removeAll(o cluster.NamespacedName) []*Trigger {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := slices.Collect(maps.Values(r.byObject[o]))
	for _, t := range all {
		r.remove(t)
	}
	return all
}

// unused removes the triggers that nothing declares, holds a stream of, or has called
// for in a while, and returns them.
func (r *registry) unused(now time.Time) (unused []*Trigger) {
	keep := keepUndeclared
	if !r.kubernetes {
		keep = keepUnwatched
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, triggers := range r.byObject {
		for _, t := range triggers {
			if !t.declared.Load() && t.streams.count() == 0 && now.Sub(time.Unix(0, t.used.Load())) > keep {
				unused = append(unused, t)
				r.remove(t)
			}
		}
	}
	return unused
}

// markDeclared records which triggers of the ScaledObject it declares now. It returns the
// changed ones.
func (r *registry) markDeclared(o cluster.NamespacedName, declared []cluster.ScaledObjectTrigger) (changed []*Trigger) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.byObject[o] {
		if r.mark(t, declares(declared, t.metadata)) {
			changed = append(changed, t)
		}
	}
	return changed
}

// setDeclared records whether a trigger is declared, if it is still open.
func (r *registry) setDeclared(t *Trigger, declared bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byObject[t.object][t.key] == t {
		r.mark(t, declared)
	}
}

// mark reports whether that is a change. The caller holds the lock.
func (r *registry) mark(t *Trigger, declared bool) bool {
	switch was := t.declared.Swap(declared); {
	case was == declared:
		return false
	case declared:
		r.undeclared--
	default:
		r.undeclared++
	}
	return true
}

// declares reports whether one of a ScaledObject's triggers has these metadata.
func declares(triggers []cluster.ScaledObjectTrigger, metadata map[string]string) bool {
	return slices.ContainsFunc(triggers, func(t cluster.ScaledObjectTrigger) bool {
		return maps.Equal(t.Metadata, metadata)
	})
}

// all returns the open triggers.
func (r *registry) all() []*Trigger {
	r.mu.RLock()
	defer r.mu.RUnlock()
	all := make([]*Trigger, 0, r.count)
	for _, triggers := range r.byObject {
		all = slices.AppendSeq(all, maps.Values(triggers))
	}
	return all
}

// of returns the open triggers of a ScaledObject.
func (r *registry) of(o cluster.NamespacedName) []*Trigger {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Collect(maps.Values(r.byObject[o]))
}

// effective returns the triggers of a ScaledObject that size its workload: those that it
// declares, or all if it declares none of them. The broker has the same rule for claims.
func (r *registry) effective(o cluster.NamespacedName) []*Trigger {
	all := r.of(o)
	if slices.ContainsFunc(all, func(t *Trigger) bool { return t.declared.Load() }) {
		all = slices.DeleteFunc(all, func(t *Trigger) bool { return !t.declared.Load() })
	}
	return all
}

// followersOf returns the triggers that follow the workload.
func (r *registry) followersOf(workload cluster.NamespacedName) []*Trigger {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Collect(maps.Keys(r.followers[workload]))
}

var seed = maphash.MakeSeed()

// hash is a hash of what key is made of. Every call computes it: a sum over the pairs
// does not depend on their order, and needs no sorting.
func hash(o cluster.NamespacedName, metadata map[string]string) uint64 {
	sum := maphash.Comparable(seed, o)
	for k, v := range metadata {
		sum += maphash.Comparable(seed, [2]string{k, v})
	}
	return sum
}

// key identifies a trigger: its ScaledObject and its metadata.
func key(o cluster.NamespacedName, metadata map[string]string) string {
	var b strings.Builder
	b.Grow(512)
	b.WriteString(o.String())
	for _, k := range slices.Sorted(maps.Keys(metadata)) {
		b.WriteByte(0)
		b.WriteString(k)
		b.WriteByte(0)
		b.WriteString(metadata[k])
	}
	return b.String()
}

// label distinguishes a trigger, in metrics and explanations, from the others of its
// ScaledObject: by a short hash if that is unique.
func label(metricName, key string, others map[string]*Trigger) string {
	h := fnv.New32a()
	h.Write([]byte(key))
	short := fmt.Sprintf("%s-%06x", metricName, h.Sum32()&0xffffff)
	for _, t := range others {
		if t.label == short {
			return fmt.Sprintf("%s-%x", metricName, sha256.Sum256([]byte(key)))
		}
	}
	return short
}
