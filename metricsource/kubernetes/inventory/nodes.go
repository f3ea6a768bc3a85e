package inventory

import (
	"cmp"
	"reflect"
	"slices"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	"github.com/inference-scaler/inference-scaler/metricsource/kubernetes/informer"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// node is what is kept of a corev1.Node, with the pods bound to it. It has no spec while
// only pods that name it are known.
type node struct {
	metav1.ObjectMeta
	spec  *cluster.NodeSpec
	pods  map[types.NamespacedName]*cluster.BoundPod
	built *cluster.Node // nil: outdated
}

func trimNode(obj any) (any, error) {
	n, ok := obj.(*corev1.Node)
	if !ok {
		return obj, nil
	}
	return &node{ObjectMeta: informer.Identify(n), spec: NewNodeSpec(n)}, nil
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

// NewNode returns a node with the pods bound to it; it takes over the slice.
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

// setNode records a node. The object belongs to the informer's cache, which does not read
// spec, pods or built.
func (w *Watcher) setNode(n *node) {
	w.update(func() (changed bool) {
		old := w.nodes[n.Name]
		if old != nil {
			n.pods = old.pods
		} else {
			n.pods = map[types.NamespacedName]*cluster.BoundPod{}
		}
		w.nodes[n.Name] = n
		if old != nil && old.spec != nil && reflect.DeepEqual(old.spec, n.spec) {
			n.spec, n.built = old.spec, old.built // a heartbeat
			return false
		}
		return true
	})
}

func (w *Watcher) deleteNode(_, name string) {
	w.update(func() bool {
		n := w.nodes[name]
		if n == nil {
			return false
		}
		n.spec, n.built = nil, nil
		w.dropIfEmpty(name)
		return true
	})
}

// bind moves a pod from its old node to its new one, and reports whether anything
// changed; nil is no node. The caller holds the lock.
func (w *Watcher) bind(key types.NamespacedName, old, now *cluster.BoundPod) (changed bool) {
	if old == nil && now == nil || old != nil && now != nil && reflect.DeepEqual(old, now) {
		return false
	}
	if old != nil && (now == nil || now.Node != old.Node) {
		if n := w.nodes[old.Node]; n != nil {
			delete(n.pods, key)
			n.built = nil
			w.dropIfEmpty(old.Node)
		}
	}
	if now != nil {
		n := w.nodes[now.Node]
		if n == nil {
			n = &node{pods: map[types.NamespacedName]*cluster.BoundPod{}}
			w.nodes[now.Node] = n
		}
		n.pods[key], n.built = now, nil
	}
	return true
}

// dropIfEmpty removes a node that neither exists nor has pods.
func (w *Watcher) dropIfEmpty(name string) {
	if n := w.nodes[name]; n.spec == nil && len(n.pods) == 0 {
		delete(w.nodes, name)
	}
}
