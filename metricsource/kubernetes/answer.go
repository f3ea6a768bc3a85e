package kubernetes

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// view is one ScaledObject with its scale target and the pods that match it.
type view struct {
	object   *scaledObject
	target   *target         // nil: it does not exist, or was never read
	pods     map[string]*pod // those that target.selector matches
	snapshot *cluster.Workload
}

// retarget sets the scale target: another one, or a new version of the same.
func (v *view) retarget(n *namespace, t *target) {
	old := v.target
	v.target, v.snapshot = t, nil
	if t == nil || t.err != nil {
		v.pods = nil
		return
	}
	if old != nil && old.err == nil && old.selector.String() == t.selector.String() {
		return
	}
	v.pods = map[string]*pod{}
	for name, p := range n.pods {
		if t.selector.Matches(labels.Set(p.Labels)) {
			v.pods[name] = p
		}
	}
}

// podChanged records a pod's new state, nil after its deletion, and reports whether the
// answer changed.
func (v *view) podChanged(name string, p *pod) bool {
	if v.target == nil || v.target.err != nil {
		return false
	}
	old := v.pods[name]
	if p != nil && v.target.selector.Matches(labels.Set(p.Labels)) {
		v.pods[name] = p
		if old != nil && old.state == p.state {
			return false
		}
	} else {
		if old == nil {
			return false
		}
		delete(v.pods, name)
	}
	v.snapshot = nil
	return true
}

// same reports whether both give the same answers.
func (t *target) same(o *target) bool {
	if t == nil || t.err != nil || o.err != nil {
		return t != nil && t.err != nil && o.err != nil && t.gone == o.gone && t.err.Error() == o.err.Error()
	}
	return t.replicas == o.replicas && t.selector.String() == o.selector.String() && reflect.DeepEqual(t.resolved, o.resolved) && reflect.DeepEqual(t.template, o.template)
}

// Workload returns the scale target of a ScaledObject. While the API server is away, it
// returns the last known state.
//
// The error wraps cluster.ErrNotSynced before the first listing, or the first read of a
// scale subresource, has succeeded. It wraps cluster.ErrNotFound if the ScaledObject or its
// scale target, which the message names, does not exist.
//
// Behavior, Pods and Template are shared between callers and must not be modified.
func (c *Cluster) Workload(namespace, scaledObject string) (cluster.Workload, error) {
	ix := c.index
	ix.mu.RLock()
	v, err := ix.view(namespace, scaledObject)
	if err == nil && v.snapshot != nil {
		defer ix.mu.RUnlock()
		return *v.snapshot, nil
	}
	ix.mu.RUnlock()
	if err != nil {
		return cluster.Workload{}, err
	}

	ix.mu.Lock()
	defer ix.mu.Unlock()
	if v, err = ix.view(namespace, scaledObject); err != nil {
		return cluster.Workload{}, err
	}
	if err := v.err(); err != nil {
		return cluster.Workload{}, fmt.Errorf("scale target %s of ScaledObject %s/%s: %w",
			v.object.spec.target, namespace, scaledObject, err)
	}
	if v.snapshot == nil {
		v.snapshot = v.build()
	}
	return *v.snapshot, nil
}

// err returns why the scale target is not known.
func (v *view) err() error {
	switch {
	case v.target != nil:
		return v.target.err
	case v.object.spec.target.polled():
		return cluster.ErrNotSynced
	}
	return cluster.ErrNotFound
}

func (v *view) build() *cluster.Workload {
	pods := make([]cluster.Pod, 0, len(v.pods))
	for _, p := range v.pods {
		pods = append(pods, p.state)
	}
	slices.SortFunc(pods, func(a, b cluster.Pod) int { return cmp.Compare(a.Name, b.Name) })
	spec := v.object.spec
	return &cluster.Workload{
		Namespace:    v.object.Namespace,
		ScaledObject: v.object.Name,
		Kind:         spec.target.kind,
		Name:         spec.target.name,
		Replicas:     v.target.replicas,
		MinReplicas:  spec.min,
		MaxReplicas:  spec.max,
		Paused:       spec.paused,
		Behavior:     spec.behavior,
		Pods:         pods,
		Template:     v.target.resolved,
	}
}

// ScaledObject returns a ScaledObject with its external triggers, if any. The error wraps
// cluster.ErrNotSynced or cluster.ErrNotFound. Triggers are shared between callers and must
// not be modified.
func (c *Cluster) ScaledObject(namespace, name string) (cluster.ScaledObject, error) {
	c.index.mu.RLock()
	defer c.index.mu.RUnlock()
	v, err := c.index.view(namespace, name)
	if err != nil {
		return cluster.ScaledObject{}, err
	}
	return v.scaledObject(), nil
}

// ScaledObjects returns those with at least one external trigger, by namespace and name.
// Namespaces that are not synced yet are left out: see Synced.
func (c *Cluster) ScaledObjects() []cluster.ScaledObject {
	ix := c.index
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	var out []cluster.ScaledObject
	for name, n := range ix.namespaces {
		if !ix.synced(name) {
			continue
		}
		for _, v := range n.views {
			if len(v.object.spec.triggers) > 0 {
				out = append(out, v.scaledObject())
			}
		}
	}
	slices.SortFunc(out, func(a, b cluster.ScaledObject) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return out
}

func (v *view) scaledObject() cluster.ScaledObject {
	return cluster.ScaledObject{Namespace: v.object.Namespace, Name: v.object.Name, Triggers: v.object.spec.triggers}
}

// view finds the view of a ScaledObject; the caller holds the lock.
func (ix *index) view(namespace, name string) (*view, error) {
	if err := ix.checkNamespace("ScaledObject", namespace, name); err != nil {
		return nil, err
	}
	if n := ix.namespaces[namespace]; n != nil && n.views[name] != nil {
		return n.views[name], nil
	}
	return nil, fmt.Errorf("ScaledObject %s/%s: %w", namespace, name, cluster.ErrNotFound)
}

// checkNamespace returns an error that names the object if its namespace is not watched or
// not synced yet. The caller holds the lock.
func (ix *index) checkNamespace(kind, namespace, name string) error {
	watched, synced := ix.scope(namespace)
	switch {
	case !watched:
		return fmt.Errorf("%s %s/%s: its namespace is not watched: %w", kind, namespace, name, cluster.ErrNotFound)
	case !synced:
		return fmt.Errorf("%s %s/%s: %w", kind, namespace, name, cluster.ErrNotSynced)
	}
	return nil
}

// UID returns the UID of a ScaledObject, and false if the ScaledObject is unknown.
func (c *Cluster) UID(namespace, scaledObject string) (uid types.UID, ok bool) {
	ix := c.index
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	if n := ix.namespaces[namespace]; n != nil && n.views[scaledObject] != nil {
		return n.views[scaledObject].object.UID, true
	}
	return "", false
}
