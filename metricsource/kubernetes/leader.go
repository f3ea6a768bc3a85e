package kubernetes

import (
	"fmt"
	"slices"
	"strings"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	"k8s.io/apimachinery/pkg/labels"
)

// Leader returns a workload of the namespace that another workload follows: the scale
// target of a ScaledObject, or any Deployment or StatefulSet. An empty kind matches any.
// ScaledObject is empty if none scales the workload. The error wraps cluster.ErrNotSynced
// or cluster.ErrNotFound.
func (c *Cluster) Leader(ns, kind, name string) (cluster.Workload, error) {
	ix := c.index
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	if err := ix.checkNamespace("workload", ns, name); err != nil {
		return cluster.Workload{}, err
	}
	var found []*view
	if n := ix.namespaces[ns]; n != nil {
		found = n.leaders(kind, name)
	}
	switch {
	case len(found) == 0:
		return cluster.Workload{}, fmt.Errorf("workload %s/%s: %w", ns, name, cluster.ErrNotFound)
	case len(found) > 1:
		return cluster.Workload{}, fmt.Errorf("%d workloads are named %s/%s: name one as kind/name", len(found), ns, name)
	}
	if err := found[0].err(); err != nil {
		return cluster.Workload{}, fmt.Errorf("workload %s/%s: %w", ns, name, err)
	}
	if w := found[0].snapshot; w != nil {
		return *w, nil
	}
	return *found[0].build(), nil
}

// leaders returns the views of the workloads of that name. For a workload that no
// ScaledObject scales, it builds one.
func (n *namespace) leaders(kind, name string) (all []*view) {
	for _, v := range n.views {
		if v.object.spec.target.isNamed(kind, name) {
			all = append(all, v)
		}
	}
	for ref, t := range n.targets {
		if !ref.isNamed(kind, name) || slices.ContainsFunc(all, func(v *view) bool { return v.object.spec.target == ref }) {
			continue
		}
		v := &view{object: &scaledObject{ObjectMeta: t.ObjectMeta, spec: objectSpec{target: ref}}, target: t, pods: map[string]*pod{}}
		v.object.Name = ""
		for podName, p := range n.pods {
			if t.err == nil && t.selector.Matches(labels.Set(p.Labels)) {
				v.pods[podName] = p
			}
		}
		all = append(all, v)
	}
	return all
}

// followers returns the ScaledObjects with a trigger that may follow such a workload. A
// trigger may name several workloads, if it omits the kind.
func (n *namespace) followers(of func(ref targetRef) bool) (all []string) {
	for so, v := range n.views {
		for _, t := range v.object.spec.triggers {
			kind, name, ok := strings.Cut(strings.TrimSpace(t.Metadata["follow"]), "/")
			if !ok {
				kind, name = "", kind
			}
			if name != "" && n.anyTarget(func(ref targetRef) bool { return ref.isNamed(kind, name) && of(ref) }) {
				all = append(all, so)
				break
			}
		}
	}
	return all
}

// isNamed reports whether a trigger may mean this workload by the name, and by the kind
// if that is not empty.
func (r targetRef) isNamed(kind, name string) bool {
	return r.name == name && (kind == "" || strings.EqualFold(r.kind, kind))
}

func (n *namespace) anyTarget(is func(targetRef) bool) bool {
	for ref := range n.targets {
		if is(ref) {
			return true
		}
	}
	return false
}

// followersOfPod returns the followers of the workloads whose selectors match a pod.
func (n *namespace) followersOfPod(p *pod) []string {
	return n.followers(func(ref targetRef) bool {
		t := n.targets[ref]
		return t.err == nil && t.selector.Matches(labels.Set(p.Labels))
	})
}
