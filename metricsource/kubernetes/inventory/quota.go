package inventory

import (
	"strings"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	"github.com/inference-scaler/inference-scaler/metricsource/kubernetes/informer"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// quota is what is kept of a corev1.ResourceQuota: its hard limits. The usage is computed
// from the pods, because the quota's status is updated late.
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
	out := &quota{ObjectMeta: informer.Identify(q), requests: cluster.Resources{}, limits: cluster.Resources{}}
	for name, amount := range q.Spec.Hard {
		hard, resource := out.requests, string(name)
		if limited, ok := strings.CutPrefix(resource, "limits."); ok {
			hard, resource = out.limits, limited
		}
		resource = strings.TrimPrefix(strings.TrimPrefix(resource, "requests."), "count/")
		value := amounts(corev1.ResourceList{corev1.ResourceName(resource): amount})[resource]
		if other, twice := hard[resource]; twice { // "cpu" and "requests.cpu" are equivalent
			value = min(value, other)
		}
		hard[resource] = value
	}
	if len(q.Spec.Scopes) > 0 || q.Spec.ScopeSelector != nil {
		out.unmodelled = "has scopes"
	}
	return out, nil
}

func (w *Watcher) setQuota(q *quota) {
	w.update(func() bool {
		w.inNamespace(q.Namespace, func(n *namespace) { n.quotas[q.Name] = q })
		return true
	})
}

func (w *Watcher) deleteQuota(ns, name string) {
	w.update(func() bool {
		w.inNamespace(ns, func(n *namespace) { delete(n.quotas, name) })
		return true
	})
}

// usage returns the quotas of a namespace with what its pods use.
func (n *namespace) usage(ns string) (all []*cluster.Quota) {
	if len(n.quotas) == 0 {
		return nil
	}
	requested, limited := cluster.Resources{}, cluster.Resources{}
	for _, p := range n.pods {
		if p.counted() {
			add(requested, p.Requests)
			add(limited, p.Limits)
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
