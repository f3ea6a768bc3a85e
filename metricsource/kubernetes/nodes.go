package kubernetes

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/resource"
)

// node is what is kept of a corev1.Node, with the pods that are bound to it; of a
// node that is not known yet, or any more, there are only those.
type node struct {
	metav1.ObjectMeta
	spec  *cluster.NodeSpec
	pods  map[podKey]*cluster.BoundPod
	built *cluster.Node // nil: to be made anew
}

type podKey struct{ namespace, name string }

func trimNode(obj any) (any, error) {
	n, ok := obj.(*corev1.Node)
	if !ok {
		return obj, nil
	}
	return &node{ObjectMeta: identify(n), spec: NewNodeSpec(n)}, nil
}

// NewNodeSpec reads what a node offers.
func NewNodeSpec(n *corev1.Node) *cluster.NodeSpec {
	ready := false
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			ready = c.Status == corev1.ConditionTrue
		}
	}
	return &cluster.NodeSpec{
		Name:          n.Name,
		Labels:        n.Labels,
		Taints:        n.Spec.Taints,
		Ready:         ready,
		Unschedulable: n.Spec.Unschedulable,
		ProviderID:    n.Spec.ProviderID,
		Allocatable:   amounts(n.Status.Allocatable),
	}
}

// NewBoundPod reads what a pod holds of the node that it is bound to; nil where it is
// bound to none, or has finished.
func NewBoundPod(p *corev1.Pod) *cluster.BoundPod {
	if p.Spec.NodeName == "" || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return nil
	}
	priority := int32(0)
	if p.Spec.Priority != nil {
		priority = *p.Spec.Priority
	}
	return &cluster.BoundPod{
		Priority: priority, Namespace: p.Namespace, Name: p.Name, Labels: p.Labels,
		Node:     p.Spec.NodeName,
		Requests: podRequests(p),
		Ports:    hostPorts(&p.Spec),
		Repels:   repels(p.Spec.Affinity),
	}
}

func podRequests(p *corev1.Pod) cluster.Resources {
	out := amounts(resource.PodRequests(p, resource.PodResourcesOptions{UseStatusResources: true}))
	out[podCount] = 1
	return out
}

func podLimits(p *corev1.Pod) cluster.Resources {
	return amounts(resource.PodLimits(p, resource.PodResourcesOptions{}))
}

func (ix *index) setNode(n *node) {
	ix.mu.Lock()
	old := ix.nodes[n.Name]
	if old != nil {
		n.pods = old.pods
	} else {
		n.pods = map[podKey]*cluster.BoundPod{}
	}
	ix.nodes[n.Name] = n
	same := old != nil && old.spec != nil && reflect.DeepEqual(old.spec, n.spec)
	if same {
		n.spec, n.built = old.spec, old.built // its heartbeat
	} else {
		ix.moved()
	}
	ix.mu.Unlock()
	ix.tellMoved()
}

func (ix *index) deleteNode(_, name string) {
	ix.mu.Lock()
	if n := ix.nodes[name]; n != nil {
		n.spec, n.built = nil, nil
		ix.forget(name)
		ix.moved()
	}
	ix.mu.Unlock()
	ix.tellMoved()
}

// bind files a pod's new state under its node; nil is none. The caller holds the lock.
func (ix *index) bind(key podKey, old, now *cluster.BoundPod) {
	if old == nil && now == nil || old != nil && now != nil && reflect.DeepEqual(old, now) {
		return
	}
	if old != nil && (now == nil || now.Node != old.Node) {
		if n := ix.nodes[old.Node]; n != nil {
			delete(n.pods, key)
			n.built = nil
			ix.forget(old.Node)
		}
	}
	if now != nil {
		n := ix.nodes[now.Node]
		if n == nil {
			n = &node{pods: map[podKey]*cluster.BoundPod{}}
			ix.nodes[now.Node] = n
		}
		n.pods[key], n.built = now, nil
	}
	ix.moved()
}

// forget drops a node of which nothing is known any more.
func (ix *index) forget(name string) {
	if n := ix.nodes[name]; n.spec == nil && len(n.pods) == 0 {
		delete(ix.nodes, name)
	}
}

// setStranger files a pod of a namespace that is not watched: it is known by what it
// holds alone.
func (ix *index) setStranger(p *pod) {
	key := podKey{p.Namespace, p.Name}
	ix.mu.Lock()
	ix.bind(key, ix.strangers[key], p.bound)
	if ix.strangers[key] = p.bound; p.bound == nil {
		delete(ix.strangers, key)
	}
	ix.mu.Unlock()
	ix.tellMoved()
}

func (ix *index) deleteStranger(ns, name string) {
	ix.setStranger(&pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}})
}

// moved notes that the inventory is another one; the caller holds the lock.
func (ix *index) moved() { ix.inventory, ix.untold = nil, true }

// tellMoved tells of it, without the lock.
func (ix *index) tellMoved() {
	ix.mu.Lock()
	tell := ix.untold && ix.onInventory != nil
	ix.untold = false
	ix.mu.Unlock()
	if tell {
		ix.onInventory()
	}
}

// Inventory says what the nodes offer, what is held of it, and what the workloads of
// ScaledObjects want of it: all of one moment. The error says why it cannot be known,
// or wraps cluster.ErrNotSynced before the first listings have ended.
func (c *Cluster) Inventory() (*cluster.Inventory, error) {
	ix := c.index
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if err := ix.unlisted(); err != nil {
		return nil, err
	}
	if ix.inventory == nil {
		ix.inventory = ix.take()
	}
	return ix.inventory, nil
}

// unlisted says what of the inventory is not known.
func (ix *index) unlisted() error {
	var err error
	for _, resource := range slices.Sorted(maps.Keys(ix.unread)) {
		if why := ix.unread[resource]; why != "" {
			return fmt.Errorf("%s: %s", resource, why)
		}
		err = fmt.Errorf("%s: %w", resource, cluster.ErrNotSynced)
	}
	return err
}

// listed notes that a resource of the inventory is known.
func (ix *index) listed(w watch) {
	ix.mu.Lock()
	_, unread := ix.unread[w.String()]
	delete(ix.unread, w.String())
	if w.resource == resourceQuotas && ix.noQuotas[w.namespace] != "" {
		delete(ix.noQuotas, w.namespace)
		unread = true
	}
	if unread {
		ix.moved()
	}
	ix.mu.Unlock()
	ix.tellMoved()
}

// unlistable notes why one is not, or no longer, and reports whether that is new.
// There is an inventory without quotas, as an administrator may want it.
func (ix *index) unlistable(w watch, why string) bool {
	ix.mu.Lock()
	refused, key := ix.unread, w.String()
	if w.resource == resourceQuotas {
		delete(ix.unread, key)
		refused, key = ix.noQuotas, w.namespace
	}
	news := refused[key] != why
	if news {
		refused[key] = why
		ix.moved()
	}
	ix.mu.Unlock()
	ix.tellMoved()
	return news
}

func (ix *index) take() *cluster.Inventory {
	out := &cluster.Inventory{NoQuotas: maps.Clone(ix.noQuotas)}
	for _, n := range ix.nodes {
		if n.spec == nil {
			continue
		}
		if n.built == nil {
			n.built = n.build()
		}
		out.Nodes = append(out.Nodes, n.built)
	}
	slices.SortFunc(out.Nodes, func(a, b *cluster.Node) int { return cmp.Compare(a.Name, b.Name) })
	out.Autoscaler = ix.autoscaler(out.Nodes)
	for name, n := range ix.namespaces {
		if _, synced := ix.scope(name); !synced {
			continue
		}
		if out.NoQuotas[""] == "" && out.NoQuotas[name] == "" {
			out.Quotas = append(out.Quotas, n.used(name)...)
		}
		for _, v := range n.views {
			if len(v.object.spec.triggers) == 0 || v.unknown() != nil {
				continue
			}
			if v.snapshot == nil {
				v.snapshot = v.build()
			}
			out.Workloads = append(out.Workloads, v.snapshot)
		}
	}
	slices.SortFunc(out.Workloads, func(a, b *cluster.Workload) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.ScaledObject, b.ScaledObject))
	})
	slices.SortFunc(out.Quotas, func(a, b *cluster.Quota) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return out
}

func (n *node) build() *cluster.Node {
	return NewNode(n.spec, slices.Collect(maps.Values(n.pods)))
}

// NewNode is a node with the pods that are bound to it, whose list it takes over.
func NewNode(spec *cluster.NodeSpec, pods []*cluster.BoundPod) *cluster.Node {
	slices.SortFunc(pods, func(a, b *cluster.BoundPod) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	out := &cluster.Node{NodeSpec: spec, Pods: pods, Held: cluster.Resources{}}
	for _, p := range pods {
		add(out.Held, p.Requests)
	}
	return out
}
