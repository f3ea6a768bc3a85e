package kubernetes

import (
	"reflect"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// classes are the objects of the cluster that pod templates name.
type classes struct {
	priorities map[string]*priorityClass
	runtimes   map[string]*runtimeClass
}

// priorityClass is what is kept of a schedulingv1.PriorityClass.
type priorityClass struct {
	metav1.ObjectMeta
	value    int32
	byItself bool // for pods that name none
	never    bool // it does not preempt
}

// runtimeClass is what is kept of a nodev1.RuntimeClass, which admission adds to a pod.
type runtimeClass struct {
	metav1.ObjectMeta
	overhead     cluster.Resources
	nodeSelector map[string]string
	tolerations  []corev1.Toleration
}

func newClasses() *classes {
	return &classes{priorities: map[string]*priorityClass{}, runtimes: map[string]*runtimeClass{}}
}

func (c *classes) defaultPriority() int32 {
	for _, p := range c.priorities {
		if p.byItself {
			return p.value
		}
	}
	return 0
}

func trimPriorityClass(obj any) (any, error) {
	p, ok := obj.(*schedulingv1.PriorityClass)
	if !ok {
		return obj, nil
	}
	never := p.PreemptionPolicy != nil && *p.PreemptionPolicy == corev1.PreemptNever
	return &priorityClass{identify(p), p.Value, p.GlobalDefault, never}, nil
}

func trimRuntimeClass(obj any) (any, error) {
	r, ok := obj.(*nodev1.RuntimeClass)
	if !ok {
		return obj, nil
	}
	out := &runtimeClass{ObjectMeta: identify(r)}
	if r.Overhead != nil {
		out.overhead = amounts(r.Overhead.PodFixed)
	}
	if r.Scheduling != nil {
		out.nodeSelector, out.tolerations = r.Scheduling.NodeSelector, r.Scheduling.Tolerations
	}
	return out, nil
}

func (ix *index) setPriorityClass(p *priorityClass) {
	ix.reclassify(func(c *classes) { c.priorities[p.Name] = p })
}

func (ix *index) deletePriorityClass(_, name string) {
	ix.reclassify(func(c *classes) { delete(c.priorities, name) })
}

func (ix *index) setRuntimeClass(r *runtimeClass) {
	ix.reclassify(func(c *classes) { c.runtimes[r.Name] = r })
}

func (ix *index) deleteRuntimeClass(_, name string) {
	ix.reclassify(func(c *classes) { delete(c.runtimes, name) })
}

// reclassify changes the classes, and what the templates make of them.
func (ix *index) reclassify(change func(*classes)) {
	ix.mu.Lock()
	change(ix.classes)
	names := make([]string, 0, len(ix.namespaces))
	for name := range ix.namespaces {
		names = append(names, name)
	}
	ix.mu.Unlock()
	for _, name := range names {
		ix.change(name, func(n *namespace) (changed []string) {
			for _, t := range n.targets {
				if t.template == nil {
					continue
				}
				before := t.resolved
				if t.resolved = t.template.resolve(ix.classes); reflect.DeepEqual(before, t.resolved) {
					continue
				}
				for so, v := range n.views {
					if v.target == t {
						v.snapshot = nil
						changed = append(changed, so)
					}
				}
			}
			return changed
		})
	}
}
