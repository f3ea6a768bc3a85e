package kubernetes

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"sync"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	"github.com/inference-scaler/inference-scaler/metricsource/kubernetes/inventory"
)

// index records what the informers and the poller found, by the ScaledObjects that it
// concerns. Its setters call onChange, without the lock, for each ScaledObject whose answer
// changed. A namespace that is not synced has no answers, so its changes are not reported
// before markSynced.
type index struct {
	// Set before any setter is called.
	onChange func(namespace, scaledObject string)
	// inventory receives the pods and learns of changed workloads under mu: its lock is
	// taken after mu, never before.
	inventory *inventory.Watcher
	wake      chan struct{} // has an element when due is not empty

	mu         sync.RWMutex
	scopes     map[string]bool // watched namespace ("": all) → synced
	namespaces map[string]*namespace
	due        map[polledRef]struct{} // to be read before the interval ends
}

// namespace is all that is known of one namespace. Views read only their own, so no
// selector matches a pod of another.
type namespace struct {
	pods    map[string]*pod
	targets map[targetRef]*target
	views   map[string]*view // by the ScaledObject's name

	services map[string]*service
	slices   map[string]*endpointSlice
	ips      map[string]int // number of pods with an address
}

func newIndex(namespaces []string, inv *inventory.Watcher) *index {
	ix := &index{
		inventory:  inv,
		wake:       make(chan struct{}, 1),
		scopes:     map[string]bool{},
		namespaces: map[string]*namespace{},
		due:        map[polledRef]struct{}{},
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
		}
		ix.namespaces[name] = n
	}
	changed := f(n)
	if len(changed) > 0 {
		ix.inventory.Invalidate()
	}
	if len(n.pods)+len(n.targets)+len(n.views)+len(n.services)+len(n.slices) == 0 {
		delete(ix.namespaces, name)
	}
	synced := ix.synced(name)
	ix.mu.Unlock()
	ix.inventory.Notify()
	if !synced || ix.onChange == nil {
		return
	}
	for _, so := range changed {
		ix.onChange(name, so)
	}
}

// scope reports whether a namespace is watched, and synced. The caller holds the lock.
func (ix *index) scope(namespace string) (watched, synced bool) {
	synced, watched = ix.scopes[namespace]
	if !watched {
		synced, watched = ix.scopes[""]
	}
	return watched, synced
}

func (ix *index) synced(namespace string) bool {
	_, synced := ix.scope(namespace)
	return synced
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
		ix.inventory.SetPod(&p.Pod)
		if old == nil {
			ix.readAgain(p.Namespace, n, p)
		}
		changed := append(n.podChanged(p.Name, p), n.readdressed(old, p)...)
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
		ix.inventory.DeletePod(ns, name)
		if old != nil {
			ix.readAgain(ns, n, old)
		}
		changed := append(n.podChanged(name, nil), n.readdressed(old, nil)...)
		if old != nil {
			changed = append(changed, n.followersOfPod(old)...)
		}
		return changed
	})
}

func (ix *index) setTarget(t *target) {
	ix.change(t.Namespace, func(n *namespace) []string {
		if t.template != nil {
			t.resolved = ix.inventory.Resolve(t.template)
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

// resolveTemplates applies changed classes to the pod templates.
func (ix *index) resolveTemplates() {
	ix.mu.RLock()
	names := slices.Collect(maps.Keys(ix.namespaces))
	ix.mu.RUnlock()
	for _, name := range names {
		ix.change(name, func(n *namespace) (changed []string) {
			for _, t := range n.targets {
				if t.template == nil {
					continue
				}
				before := t.resolved
				if t.resolved = ix.inventory.Resolve(t.template); reflect.DeepEqual(before, t.resolved) {
					continue
				}
				for so, v := range n.views {
					if v.target == t {
						v.snapshot = nil
						changed = append(changed, so)
					}
				}
			}
			return changed
		})
	}
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
		// The followers of the old target change too: no ScaledObject scales it now.
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

// workloads returns those of ScaledObjects with external triggers, by namespace and name.
// Unsynced namespaces are left out. The caller holds the lock.
func (ix *index) workloads() (all []*cluster.Workload) {
	for name, n := range ix.namespaces {
		if !ix.synced(name) {
			continue
		}
		for _, v := range n.views {
			if len(v.object.spec.triggers) == 0 || v.err() != nil {
				continue
			}
			if v.snapshot == nil {
				v.snapshot = v.build()
			}
			all = append(all, v.snapshot)
		}
	}
	slices.SortFunc(all, func(a, b *cluster.Workload) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.ScaledObject, b.ScaledObject))
	})
	return all
}

func (n *namespace) podChanged(name string, p *pod) (changed []string) {
	for so, v := range n.views {
		if v.podChanged(name, p) {
			changed = append(changed, so)
		}
	}
	return changed
}

// setTarget records a target; nil: it does not exist.
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
