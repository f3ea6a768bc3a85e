package kubernetes

import (
	"reflect"
	"sync"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	"k8s.io/apimachinery/pkg/labels"
)

// index files what the informers and the poller found under the ScaledObjects it
// concerns. Its setters tell onChange, after they let go of the lock, whose
// answer changed; a namespace that is not synced answers nothing, so nothing of
// it changes before markSynced.
type index struct {
	// Both are set before any setter is called.
	onChange    func(namespace, scaledObject string)
	onInventory func()
	wake        chan struct{} // a token when due is not empty

	mu         sync.RWMutex
	scopes     map[string]bool // namespace watched ("": all) → synced
	namespaces map[string]*namespace
	due        map[polledRef]struct{} // to be read now, ahead of the interval

	nodes       map[string]*node
	strangers   map[podKey]*cluster.BoundPod // of namespaces that are not watched
	classes     *classes
	autoscalers *autoscalers       // nil: not looked for yet
	unread      map[string]string  // resources of the inventory that are not known → why, if that is known
	noQuotas    map[string]string  // namespaces, or "", whose quotas may not be listed → why
	inventory   *cluster.Inventory // nil: to be taken anew
	untold      bool               // onInventory has not been told that it is
}

// namespace is all that is known of one namespace. Views look no further, so no
// selector reaches a pod of another.
type namespace struct {
	pods    map[string]*pod
	targets map[targetRef]*target
	views   map[string]*view // by the ScaledObject's name

	services map[string]*service
	slices   map[string]*endpointSlice
	ips      map[string]int // how many pods have an address
	quotas   map[string]*quota
}

// polledRef names a scale target that no informer watches.
type polledRef struct {
	namespace string
	targetRef
}

func newIndex(namespaces []string) *index {
	ix := &index{
		wake:       make(chan struct{}, 1),
		scopes:     map[string]bool{},
		namespaces: map[string]*namespace{},
		due:        map[polledRef]struct{}{},
		nodes:      map[string]*node{},
		strangers:  map[podKey]*cluster.BoundPod{},
		classes:    newClasses(),
		unread:     map[string]string{nodeAutoscalers: ""}, // at least: nothing is known before Run
		noQuotas:   map[string]string{},
	}
	for _, ns := range namespaces {
		ix.scopes[ns] = false
	}
	return ix
}

// change runs f on a namespace under the lock. f returns the ScaledObjects whose
// answer it changed.
func (ix *index) change(name string, f func(*namespace) []string) {
	ix.mu.Lock()
	n := ix.namespaces[name]
	if n == nil {
		n = &namespace{
			pods: map[string]*pod{}, targets: map[targetRef]*target{}, views: map[string]*view{},
			services: map[string]*service{}, slices: map[string]*endpointSlice{}, ips: map[string]int{},
			quotas: map[string]*quota{},
		}
		ix.namespaces[name] = n
	}
	changed := f(n)
	if len(changed) > 0 {
		ix.moved()
	}
	if len(n.pods)+len(n.targets)+len(n.views)+len(n.services)+len(n.slices)+len(n.quotas) == 0 {
		delete(ix.namespaces, name)
	}
	_, synced := ix.scope(name)
	ix.mu.Unlock()
	ix.tellMoved()
	if !synced || ix.onChange == nil {
		return
	}
	for _, so := range changed {
		ix.onChange(name, so)
	}
}

// scope says whether a namespace is watched at all, and synced.
func (ix *index) scope(namespace string) (watched, synced bool) {
	synced, watched = ix.scopes[namespace]
	if !watched {
		synced, watched = ix.scopes[""]
	}
	return watched, synced
}

func (ix *index) markSynced(scope string) {
	ix.mu.Lock()
	ix.scopes[scope] = true
	var names []string
	for name := range ix.namespaces {
		if scope == "" || scope == name {
			names = append(names, name)
		}
	}
	ix.mu.Unlock()
	for _, name := range names {
		ix.change(name, func(n *namespace) (all []string) {
			for so := range n.views {
				all = append(all, so)
			}
			return all
		})
	}
}

func (ix *index) allSynced() bool {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	for _, synced := range ix.scopes {
		if !synced {
			return false
		}
	}
	return true
}

func (ix *index) setPod(p *pod) {
	ix.change(p.Namespace, func(n *namespace) []string {
		old := n.pods[p.Name]
		n.pods[p.Name] = p
		ix.bind(podKey{p.Namespace, p.Name}, boundOf(old), p.bound)
		if len(n.quotas) > 0 && (old == nil || old.state.Finished() != p.state.Finished()) {
			ix.moved() // it counts before it is bound
		}
		if old == nil {
			ix.readAgain(p.Namespace, n, p)
		}
		changed := append(n.podChanged(p.Name, p), n.moved(old, p)...)
		if old == nil || old.state != p.state {
			changed = append(changed, n.followersOfPod(p)...)
		}
		return changed
	})
}

func (ix *index) deletePod(ns, name string) {
	ix.change(ns, func(n *namespace) []string {
		old := n.pods[name]
		delete(n.pods, name)
		ix.bind(podKey{ns, name}, boundOf(old), nil)
		if len(n.quotas) > 0 {
			ix.moved()
		}
		if old != nil {
			ix.readAgain(ns, n, old)
		}
		changed := append(n.podChanged(name, nil), n.moved(old, nil)...)
		if old != nil {
			changed = append(changed, n.followersOfPod(old)...)
		}
		return changed
	})
}

func (ix *index) setTarget(t *target) {
	ix.change(t.Namespace, func(n *namespace) []string {
		if t.template != nil {
			t.resolved = t.template.resolve(ix.classes)
		}
		return n.setTarget(t.ref, t)
	})
}

func (ix *index) deleteTarget(kind string) func(ns, name string) {
	return func(ns, name string) {
		ix.change(ns, func(n *namespace) []string {
			return n.setTarget(targetRef{group: groupApps, kind: kind, name: name}, nil)
		})
	}
}

// setPolled takes what a scale subresource said. A failure does not replace an
// answer, and an answer that nobody waits for any more is dropped.
func (ix *index) setPolled(ref polledRef, t *target) {
	ix.change(ref.namespace, func(n *namespace) []string {
		old := n.targets[ref.targetRef]
		failed := t.err != nil && !t.gone
		answered := old != nil && (old.err == nil || old.gone)
		if !n.wants(ref.targetRef) || failed && answered {
			return nil
		}
		return n.setTarget(ref.targetRef, t)
	})
}

func (ix *index) setObject(o *scaledObject) {
	ix.change(o.Namespace, func(n *namespace) []string {
		v := n.views[o.Name]
		if v != nil && reflect.DeepEqual(v.object.spec, o.spec) {
			v.object = o // its status or UID
			return nil
		}
		if v == nil {
			v = &view{}
			n.views[o.Name] = v
		}
		old := v.object
		v.object, v.snapshot = o, nil
		if old == nil || old.spec.target != o.spec.target {
			v.retarget(n, n.targets[o.spec.target])
		}
		// Of what it scaled before it is no longer the scaler, and who followed that hears.
		changed := n.followers(func(ref targetRef) bool { return ref == o.spec.target || old != nil && ref == old.spec.target })
		if old != nil {
			n.release(old.spec.target)
		}
		ix.readSoon(o.Namespace, o.spec.target)
		return append(changed, o.Name)
	})
}

func (ix *index) deleteObject(ns, name string) {
	ix.change(ns, func(n *namespace) []string {
		v := n.views[name]
		if v == nil {
			return nil
		}
		delete(n.views, name)
		changed := n.followers(func(ref targetRef) bool { return ref == v.object.spec.target })
		n.release(v.object.spec.target)
		return append(changed, name)
	})
}

// readSoon has the scale subresource of a target that no informer watches read ahead
// of the interval.
func (ix *index) readSoon(ns string, ref targetRef) {
	if !ref.polled() {
		return
	}
	ix.due[polledRef{ns, ref}] = struct{}{}
	select {
	case ix.wake <- struct{}{}:
	default:
	}
}

// readAgain does so for the targets that a pod belongs to which has come or gone:
// their replicas have most likely changed, and a fleet that was woken would be taken
// for asleep until the interval is over.
func (ix *index) readAgain(ns string, n *namespace, p *pod) {
	for _, v := range n.views {
		if v.target != nil && v.target.err == nil && v.target.selector.Matches(labels.Set(p.Labels)) {
			ix.readSoon(ns, v.object.spec.target)
		}
	}
}

// takeDue returns the polled targets of ScaledObjects that are new or changed.
func (ix *index) takeDue() map[polledRef]struct{} {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	due := ix.due
	ix.due = map[polledRef]struct{}{}
	return due
}

// polled returns every polled target that a ScaledObject names.
func (ix *index) polled() map[polledRef]struct{} {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	refs := map[polledRef]struct{}{}
	for name, n := range ix.namespaces {
		for _, v := range n.views {
			if ref := v.object.spec.target; ref.polled() {
				refs[polledRef{name, ref}] = struct{}{}
			}
		}
	}
	return refs
}

func (n *namespace) podChanged(name string, p *pod) (changed []string) {
	for so, v := range n.views {
		if v.podChanged(name, p) {
			changed = append(changed, so)
		}
	}
	return changed
}

// setTarget files a target, or with nil that there is none.
func (n *namespace) setTarget(ref targetRef, t *target) (changed []string) {
	of := func(changed targetRef) bool { return changed == ref }
	if t == nil {
		changed = n.followers(of)
		delete(n.targets, ref)
	} else {
		if n.targets[ref].same(t) {
			return nil
		}
		n.targets[ref] = t
		changed = n.followers(of)
	}
	for so, v := range n.views {
		if v.object.spec.target == ref {
			v.retarget(n, t)
			changed = append(changed, so)
		}
	}
	return changed
}

func (n *namespace) wants(ref targetRef) bool {
	for _, v := range n.views {
		if v.object.spec.target == ref {
			return true
		}
	}
	return false
}

// release forgets a polled target once no ScaledObject names it: nothing would
// keep it current.
func (n *namespace) release(ref targetRef) {
	if ref.polled() && !n.wants(ref) {
		delete(n.targets, ref)
	}
}
