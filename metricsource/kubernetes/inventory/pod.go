package inventory

import (
	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	"github.com/inference-scaler/inference-scaler/metricsource/kubernetes/informer"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/resource"
)

// Pod is what an inventory needs of a corev1.Pod.
type Pod struct {
	metav1.ObjectMeta                   // identity and labels
	Bound             *cluster.BoundPod // nil: it holds nothing of a node
	Requests, Limits  cluster.Resources
	Finished          bool
}

// NewPod reads a pod.
func NewPod(p *corev1.Pod) Pod {
	out := Pod{
		ObjectMeta: informer.Identify(p),
		Bound:      NewBoundPod(p),
		Limits:     amounts(resource.PodLimits(p, resource.PodResourcesOptions{})),
		Finished:   finished(p),
	}
	out.Labels = p.Labels
	if out.Bound != nil {
		out.Requests = out.Bound.Requests
	} else {
		out.Requests = podRequests(p)
	}
	return out
}

func trimPod(obj any) (any, error) {
	p, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil
	}
	out := NewPod(p)
	return &out, nil
}

// NewBoundPod reads what a pod holds of its node; nil if it is not bound to a node or has
// finished.
func NewBoundPod(p *corev1.Pod) *cluster.BoundPod {
	if p.Spec.NodeName == "" || finished(p) {
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
		Repels:   antiAffinity(p.Spec.Affinity),
	}
}

func finished(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

func podRequests(p *corev1.Pod) cluster.Resources {
	out := amounts(resource.PodRequests(p, resource.PodResourcesOptions{UseStatusResources: true}))
	out[podCount] = 1
	return out
}

// boundPod returns what the pod holds of a node; a nil pod does not exist.
func (p *Pod) boundPod() *cluster.BoundPod {
	if p == nil {
		return nil
	}
	return p.Bound
}

// counted reports whether quotas count the pod; a nil pod does not exist.
func (p *Pod) counted() bool { return p != nil && !p.Finished }
