package kubernetes

import "k8s.io/apimachinery/pkg/labels"

// polledRef names a scale target that no informer watches.
type polledRef struct {
	namespace string
	targetRef
}

// setPolled records the result of reading a scale subresource. A failure does not replace
// a result. A result that no ScaledObject needs any more is dropped.
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

// readSoon requests a read of a target's scale subresource before the interval ends, if no
// informer watches the target.
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

// readAgain calls readSoon for the targets of a pod that was created or deleted: their
// replicas probably changed. Without it, a fleet that leaves zero replicas would count as
// scaled to zero until the interval ends.
func (ix *index) readAgain(ns string, n *namespace, p *pod) {
	for _, v := range n.views {
		if v.target != nil && v.target.err == nil && v.target.selector.Matches(labels.Set(p.Labels)) {
			ix.readSoon(ns, v.object.spec.target)
		}
	}
}

// takeDue returns the targets that readSoon requested since the last call.
func (ix *index) takeDue() map[polledRef]struct{} {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	due := ix.due
	ix.due = map[polledRef]struct{}{}
	return due
}

// polled returns every polled target that a ScaledObject references.
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

func (n *namespace) wants(ref targetRef) bool {
	for _, v := range n.views {
		if v.object.spec.target == ref {
			return true
		}
	}
	return false
}

// release removes a polled target that no ScaledObject references: it is not read any more.
func (n *namespace) release(ref targetRef) {
	if ref.polled() && !n.wants(ref) {
		delete(n.targets, ref)
	}
}
