package capacity

import (
	"slices"
	"strings"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	schedulinghelper "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// eligibleNodes caches which nodes a pod of a template may run on. An entry is valid
// until its node or the template changes.
type eligibleNodes struct {
	*matcher // nil before the first update
	specs    []*cluster.NodeSpec
	eligible []bool // by index of specs
	used     bool
}

// update evaluates the nodes that are new or have changed. Both lists are ordered by name.
func (f *eligibleNodes) update(t *cluster.PodTemplate, specs []*cluster.NodeSpec) {
	if f.matcher == nil || f.template != t {
		f.matcher, f.specs, f.eligible = newMatcher(t), nil, nil
	} else if sameSlice(f.specs, specs) {
		return
	}
	old, cached := f.specs, f.eligible
	eligible := make([]bool, len(specs))
	at := 0
	for i, n := range specs {
		for at < len(old) && old[at].Name < n.Name {
			at++
		}
		if at < len(old) && old[at] == n {
			eligible[i] = cached[at]
		} else {
			eligible[i] = f.accepts(n)
		}
	}
	f.specs, f.eligible = specs, eligible
}

// sameSlice reports whether both are the same slice. Equal contents are not enough.
func sameSlice(a, b []*cluster.NodeSpec) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

func specsOf(nodes []*cluster.Node) []*cluster.NodeSpec {
	specs := make([]*cluster.NodeSpec, 0, len(nodes))
	for _, n := range nodes {
		specs = append(specs, n.NodeSpec)
	}
	return specs
}

// matcher decides which nodes a pod of a template may run on, regardless of the pods there.
type matcher struct {
	template *cluster.PodTemplate
	affinity nodeaffinity.RequiredNodeAffinity
}

func newMatcher(t *cluster.PodTemplate) *matcher {
	a := &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: t.NodeAffinity}}
	return &matcher{t, nodeaffinity.NewRequiredNodeAffinity(t.NodeSelector, a)}
}

func (m *matcher) accepts(n *cluster.NodeSpec) bool {
	if !n.Ready || n.Unschedulable && !m.tolerates(&corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}) {
		return false
	}
	return m.toleratesAll(n.Taints) && m.selects(n)
}

// selects reports whether the template's node selector and node affinity match a node.
func (m *matcher) selects(n *cluster.NodeSpec) bool {
	ok, err := m.affinity.Match(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: n.Labels}})
	return ok && err == nil
}

func (m *matcher) tolerates(taint *corev1.Taint) bool {
	return schedulinghelper.TolerationsTolerateTaint(logr.Discard(), m.template.Tolerations, taint, true)
}

// toleratesAll reports whether the pod tolerates all taints except PreferNoSchedule ones.
// A taint whose key is a resource that the pod requests counts as tolerated: the admission
// plugin ExtendedResourceToleration adds that toleration to pods, and not to templates.
func (m *matcher) toleratesAll(taints []corev1.Taint) bool {
	for i := range taints {
		switch t := &taints[i]; {
		case t.Effect == corev1.TaintEffectPreferNoSchedule, m.tolerates(t):
		case t.Effect == corev1.TaintEffectNoSchedule && m.template.Requests[t.Key] > 0:
		default:
			return false
		}
	}
	return true
}

// matchesPool reports whether the pod may run on nodes that the pool adds.
func (m *matcher) matchesPool(pool *cluster.NodePool) bool {
	if !m.toleratesAll(pool.Taints) {
		return false
	}
	for key, value := range m.template.NodeSelector {
		if has, ok := pool.Labels[key]; ok && has != value {
			return false
		}
		if allowed, ok := pool.Allowed[key]; ok && !slices.Contains(allowed, value) {
			return false
		}
	}
	return true
}

// repellingPod is a pod with required anti-affinity terms, and its node.
type repellingPod struct {
	*cluster.BoundPod
	node *cluster.Node
}

func repellingPods(nodes []*cluster.Node) (all []repellingPod) {
	for _, n := range nodes {
		for _, p := range n.Pods {
			if len(p.Repels) > 0 {
				all = append(all, repellingPod{p, n})
			}
		}
	}
	return all
}

// conflicts returns the nodes whose pods prevent a pod of the template from running there;
// nil if there are none. onePerNode: two pods of the template cannot share a node.
func conflicts(namespace string, t *cluster.PodTemplate, nodes []*cluster.Node, repelling []repellingPod) (blocked []bool, onePerNode bool) {
	block := func(i int) {
		if blocked == nil {
			blocked = make([]bool, len(nodes))
		}
		blocked[i] = true
	}
	repelled := map[[2]string]bool{} // topology keys and values of the pods that repel it
	for _, p := range repelling {
		for _, term := range p.Repels {
			if value, ok := p.node.Labels[term.TopologyKey]; ok && repels(&term, p.Namespace, namespace, t.Labels) {
				repelled[[2]string{term.TopologyKey, value}] = true
			}
		}
	}
	for topology := range repelled {
		for i, n := range nodes {
			if n.Labels[topology[0]] == topology[1] {
				block(i)
			}
		}
	}
	if len(t.Ports)+len(t.Repels) == 0 {
		return blocked, false
	}
	for i, n := range nodes {
		if slices.ContainsFunc(n.Pods, func(p *cluster.BoundPod) bool {
			return portsConflict(t.Ports, p.Ports) || avoids(t, namespace, p.Namespace, p.Labels)
		}) {
			block(i)
		}
	}
	return blocked, len(t.Ports) > 0 || avoids(t, namespace, namespace, t.Labels)
}

// avoids reports whether the template's anti-affinity keeps its pods off nodes that run a
// pod with these labels. from is the namespace of the template, namespace that of the pod.
func avoids(t *cluster.PodTemplate, from, namespace string, of map[string]string) bool {
	return slices.ContainsFunc(t.Repels, func(term corev1.PodAffinityTerm) bool {
		return term.TopologyKey == corev1.LabelHostname && repels(&term, from, namespace, of)
	})
}

// repels reports whether an anti-affinity term of a pod in namespace from matches a pod with
// these labels in the other namespace. A namespaceSelector that selects by labels is not
// modelled, and matches nothing.
func repels(term *corev1.PodAffinityTerm, from, namespace string, of map[string]string) bool {
	switch {
	case term.NamespaceSelector != nil:
		everywhere := len(term.NamespaceSelector.MatchLabels)+len(term.NamespaceSelector.MatchExpressions) == 0
		if !everywhere && !slices.Contains(term.Namespaces, namespace) {
			return false
		}
	case len(term.Namespaces) > 0:
		if !slices.Contains(term.Namespaces, namespace) {
			return false
		}
	case from != namespace:
		return false
	}
	selector, err := metav1.LabelSelectorAsSelector(term.LabelSelector)
	return err == nil && selector.Matches(labels.Set(of))
}

// portsConflict reports whether two pods use the same host port.
func portsConflict(a, b []cluster.HostPort) bool {
	for _, p := range a {
		for _, q := range b {
			if p.Port == q.Port && strings.EqualFold(p.Protocol, q.Protocol) && (p.IP == q.IP || p.IP == "" || q.IP == "") {
				return true
			}
		}
	}
	return false
}
