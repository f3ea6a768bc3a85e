package kubernetes

import (
	"strings"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// quota is what is kept of a corev1.ResourceQuota: its hard limits. What is used of
// them is counted from the pods, which the quota's own status follows late.
type quota struct {
	metav1.ObjectMeta
	requests, limits cluster.Resources
	unmodelled       string
}

const resourceQuotas = "resourcequotas"

func trimQuota(obj any) (any, error) {
	q, ok := obj.(*corev1.ResourceQuota)
	if !ok {
		return obj, nil
	}
	out := &quota{ObjectMeta: identify(q), requests: cluster.Resources{}, limits: cluster.Resources{}}
	for name, amount := range q.Spec.Hard {
		hard, resource := out.requests, string(name)
		if limited, ok := strings.CutPrefix(resource, "limits."); ok {
			hard, resource = out.limits, limited
		}
		resource = strings.TrimPrefix(strings.TrimPrefix(resource, "requests."), "count/")
		value := amounts(corev1.ResourceList{corev1.ResourceName(resource): amount})[resource]
		if other, twice := hard[resource]; twice { // "cpu" and "requests.cpu" are one
			value = min(value, other)
		}
		hard[resource] = value
	}
	if len(q.Spec.Scopes) > 0 || q.Spec.ScopeSelector != nil {
		out.unmodelled = "has scopes"
	}
	return out, nil
}

func (ix *index) setQuota(q *quota) {
	ix.change(q.Namespace, func(n *namespace) []string {
		n.quotas[q.Name] = q
		ix.moved()
		return nil
	})
}

func (ix *index) deleteQuota(ns, name string) {
	ix.change(ns, func(n *namespace) []string {
		delete(n.quotas, name)
		ix.moved()
		return nil
	})
}

// used is what the quotas of a namespace allow, and what its pods use of it.
func (n *namespace) used(ns string) (all []*cluster.Quota) {
	if len(n.quotas) == 0 {
		return nil
	}
	requested, limited := cluster.Resources{}, cluster.Resources{}
	for _, p := range n.pods {
		if !p.state.Finished() {
			add(requested, p.requests)
			add(limited, p.limits)
		}
	}
	for name, q := range n.quotas {
		all = append(all, &cluster.Quota{
			Namespace: ns, Name: name, Requests: q.requests, Limits: q.limits,
			Requested: requested, Limited: limited, Unmodelled: q.unmodelled,
		})
	}
	return all
}

func add(sum, more cluster.Resources) {
	for name, amount := range more {
		sum[name] += amount
	}
}
