package inventory

import (
	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	"github.com/inference-scaler/inference-scaler/metricsource/kubernetes/informer"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// classes are the cluster-scoped objects that pod templates name.
type classes struct {
	priorities map[string]*priorityClass
	runtimes   map[string]*runtimeClass
}

// priorityClass is what is kept of a schedulingv1.PriorityClass.
type priorityClass struct {
	metav1.ObjectMeta
	value         int32
	globalDefault bool // applies to pods that name no class
	preemptsNever bool
}

// runtimeClass is what is kept of a nodev1.RuntimeClass. Admission adds it to a pod.
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
		if p.globalDefault {
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
	return &priorityClass{informer.Identify(p), p.Value, p.GlobalDefault, never}, nil
}

func trimRuntimeClass(obj any) (any, error) {
	r, ok := obj.(*nodev1.RuntimeClass)
	if !ok {
		return obj, nil
	}
	out := &runtimeClass{ObjectMeta: informer.Identify(r)}
	if r.Overhead != nil {
		out.overhead = amounts(r.Overhead.PodFixed)
	}
	if r.Scheduling != nil {
		out.nodeSelector, out.tolerations = r.Scheduling.NodeSelector, r.Scheduling.Tolerations
	}
	return out, nil
}

func (w *Watcher) setPriorityClass(p *priorityClass) {
	w.updateClasses(func(c *classes) { c.priorities[p.Name] = p })
}

func (w *Watcher) deletePriorityClass(_, name string) {
	w.updateClasses(func(c *classes) { delete(c.priorities, name) })
}

func (w *Watcher) setRuntimeClass(r *runtimeClass) {
	w.updateClasses(func(c *classes) { c.runtimes[r.Name] = r })
}

func (w *Watcher) deleteRuntimeClass(_, name string) {
	w.updateClasses(func(c *classes) { delete(c.runtimes, name) })
}

// updateClasses changes the classes. The inventory changes only with the workloads whose
// templates OnClasses resolves again.
func (w *Watcher) updateClasses(change func(*classes)) {
	w.mu.Lock()
	change(w.classes)
	w.mu.Unlock()
	w.opts.OnClasses()
}

// Resolve applies the classes that a template names.
func (w *Watcher) Resolve(t *Template) *cluster.PodTemplate {
	w.mu.Lock()
	defer w.mu.Unlock()
	return t.resolve(w.classes)
}
