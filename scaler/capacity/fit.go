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

// nodesFor remembers on which nodes a pod of a template may run, for as long as they
// and the template stay what they are.
type nodesFor struct {
	*placer // nil before the first update
	specs   []*cluster.NodeSpec
	nodes   []bool // may it
	used    bool
}

// update looks again at the nodes that are new or have changed; both lists are ordered
// by name.
func (f *nodesFor) update(t *cluster.PodTemplate, specs []*cluster.NodeSpec) {
	if f.placer == nil || f.template != t {
		f.placer, f.specs, f.nodes = newPlacer(t), nil, nil
	} else if same(f.specs, specs) {
		return
	}
	old, was := f.specs, f.nodes
	may := make([]bool, len(specs))
	at := 0
	for i, n := range specs {
		for at < len(old) && old[at].Name < n.Name {
			at++
		}
		if at < len(old) && old[at] == n {
			may[i] = was[at]
		} else {
			may[i] = f.may(n)
		}
	}
	f.specs, f.nodes = specs, may
}

// same reports whether both are one list, and not only equal.
func same(a, b []*cluster.NodeSpec) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

func specsOf(nodes []*cluster.Node) []*cluster.NodeSpec {
	specs := make([]*cluster.NodeSpec, 0, len(nodes))
	for _, n := range nodes {
		specs = append(specs, n.NodeSpec)
	}
	return specs
}

// placer decides which nodes a pod of a template may run on, whatever runs there.
type placer struct {
	template *cluster.PodTemplate
	affinity nodeaffinity.RequiredNodeAffinity
}

func newPlacer(t *cluster.PodTemplate) *placer {
	a := &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: t.NodeAffinity}}
	return &placer{t, nodeaffinity.NewRequiredNodeAffinity(t.NodeSelector, a)}
}

func (p *placer) may(n *cluster.NodeSpec) bool {
	if !n.Ready || n.Unschedulable && !p.tolerates(&corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}) {
		return false
	}
	return p.tolerateAll(n.Taints) && p.wants(n)
}

// wants reports whether the template's selectors match a node.
func (p *placer) wants(n *cluster.NodeSpec) bool {
	ok, err := p.affinity.Match(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: n.Labels}})
	return ok && err == nil
}

func (p *placer) tolerates(taint *corev1.Taint) bool {
	return schedulinghelper.TolerationsTolerateTaint(logr.Discard(), p.template.Tolerations, taint, true)
}

// tolerateAll looks at the taints that keep a pod away, and not at mere preferences. One
// named after a resource that the pod requests is tolerated: where such taints are in use
// admission adds that to pods (ExtendedResourceToleration), and templates lack it.
func (p *placer) tolerateAll(taints []corev1.Taint) bool {
	for i := range taints {
		switch t := &taints[i]; {
		case t.Effect == corev1.TaintEffectPreferNoSchedule, p.tolerates(t):
		case t.Effect == corev1.TaintEffectNoSchedule && p.template.Requests[t.Key] > 0:
		default:
			return false
		}
	}
	return true
}

// joins reports whether nodes of a pool may be ones that the pod may run on.
func (p *placer) joins(pool *cluster.NodePool) bool {
	if !p.tolerateAll(pool.Taints) {
		return false
	}
	for key, value := range p.template.NodeSelector {
		if has, ok := pool.Labels[key]; ok && has != value {
			return false
		}
		if allowed, ok := pool.Allowed[key]; ok && !slices.Contains(allowed, value) {
			return false
		}
	}
	return true
}

// shyPod is a pod that keeps others away, and its node.
type shyPod struct {
	*cluster.BoundPod
	node *cluster.Node
}

func shyPods(nodes []*cluster.Node) (all []shyPod) {
	for _, n := range nodes {
		for _, p := range n.Pods {
			if len(p.Repels) > 0 {
				all = append(all, shyPod{p, n})
			}
		}
	}
	return all
}

// conflicts reports, by node, where a pod of the template is kept away by those that
// run there; nil: nowhere. lonely: one that runs keeps the next one away.
func conflicts(namespace string, t *cluster.PodTemplate, nodes []*cluster.Node, shy []shyPod) (blocked []bool, lonely bool) {
	block := func(i int) {
		if blocked == nil {
			blocked = make([]bool, len(nodes))
		}
		blocked[i] = true
	}
	away := map[[2]string]bool{} // where pods that repel it are: a topology key and its value
	for _, p := range shy {
		for _, term := range p.Repels {
			if value, ok := p.node.Labels[term.TopologyKey]; ok && repels(&term, p.Namespace, namespace, t.Labels) {
				away[[2]string{term.TopologyKey, value}] = true
			}
		}
	}
	for where := range away {
		for i, n := range nodes {
			if n.Labels[where[0]] == where[1] {
				block(i)
			}
		}
	}
	if len(t.Ports)+len(t.Repels) == 0 {
		return blocked, false
	}
	for i, n := range nodes {
		if slices.ContainsFunc(n.Pods, func(p *cluster.BoundPod) bool {
			return clash(t.Ports, p.Ports) || avoids(t, namespace, p.Namespace, p.Labels)
		}) {
			block(i)
		}
	}
	return blocked, len(t.Ports) > 0 || avoids(t, namespace, namespace, t.Labels)
}

// avoids reports whether a pod of the template runs on no node where such a pod runs.
func avoids(t *cluster.PodTemplate, from, namespace string, of map[string]string) bool {
	return slices.ContainsFunc(t.Repels, func(term corev1.PodAffinityTerm) bool {
		return term.TopologyKey == corev1.LabelHostname && repels(&term, from, namespace, of)
	})
}

// repels reports whether a term of a pod in one namespace keeps a pod of another away.
// What of terms is not modelled (a selector of namespaces) repels nothing here.
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

// clash reports whether two pods want the same port of a node.
func clash(a, b []cluster.HostPort) bool {
	for _, p := range a {
		for _, q := range b {
			if p.Port == q.Port && strings.EqualFold(p.Protocol, q.Protocol) && (p.IP == q.IP || p.IP == "" || q.IP == "") {
				return true
			}
		}
	}
	return false
}
