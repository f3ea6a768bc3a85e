package inventory

import (
	"maps"
	"slices"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/resource"
)

// Template is a pod template before the classes that it names are applied: these are
// objects of their own, and may be created after the workload.
type Template struct {
	cluster.PodTemplate
	runtimeClass, priorityClass string
}

// NewTemplate reads a pod template.
func NewTemplate(t *corev1.PodTemplateSpec) *Template {
	spec := t.Spec
	pod := &corev1.Pod{Spec: spec}
	pod.Spec.Containers, pod.Spec.InitContainers = defaulted(spec.Containers), defaulted(spec.InitContainers)
	out := &Template{
		PodTemplate: cluster.PodTemplate{
			Labels:       t.Labels,
			Requests:     amounts(resource.PodRequests(pod, resource.PodResourcesOptions{})),
			Limits:       amounts(resource.PodLimits(pod, resource.PodResourcesOptions{})),
			NodeSelector: spec.NodeSelector,
			Tolerations:  spec.Tolerations,
			Repels:       antiAffinity(spec.Affinity),
			Ports:        hostPorts(&spec),
			Unmodelled:   unmodelled(t),
		},
		priorityClass: spec.PriorityClassName,
	}
	if a := spec.Affinity; a != nil && a.NodeAffinity != nil {
		out.NodeAffinity = a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	}
	out.Requests[podCount] = 1
	if spec.Priority != nil {
		out.Priority = *spec.Priority
	}
	out.PreemptsNever = spec.PreemptionPolicy != nil && *spec.PreemptionPolicy == corev1.PreemptNever
	if spec.RuntimeClassName != nil {
		out.runtimeClass = *spec.RuntimeClassName
	}
	return out
}

// defaulted applies the API server's default of a pod: a limit without a request is also
// the request.
func defaulted(containers []corev1.Container) []corev1.Container {
	containers = slices.Clone(containers)
	for i, c := range containers {
		requests := maps.Clone(c.Resources.Requests)
		for name, limit := range c.Resources.Limits {
			if _, ok := requests[name]; !ok {
				if requests == nil {
					requests = corev1.ResourceList{}
				}
				requests[name] = limit
			}
		}
		containers[i].Resources.Requests = requests
	}
	return containers
}

// podCount is the resource of which every pod holds 1.
const podCount = string(corev1.ResourcePods)

func amounts(list corev1.ResourceList) cluster.Resources {
	out := make(cluster.Resources, len(list))
	for name, q := range list {
		if name == corev1.ResourceCPU {
			out[string(name)] = q.MilliValue()
		} else {
			out[string(name)] = q.Value()
		}
	}
	return out
}

// antiAffinity returns the required terms.
func antiAffinity(a *corev1.Affinity) []corev1.PodAffinityTerm {
	if a == nil || a.PodAntiAffinity == nil {
		return nil
	}
	return a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution
}

// hostPorts returns the ports of containers and sidecars, as the scheduler counts them.
func hostPorts(spec *corev1.PodSpec) []cluster.HostPort {
	var all []cluster.HostPort
	collect := func(c corev1.Container) {
		for _, p := range c.Ports {
			port := p.HostPort
			if spec.HostNetwork && port == 0 {
				port = p.ContainerPort // the API server's default for pods
			}
			if port <= 0 {
				continue
			}
			h := cluster.HostPort{IP: p.HostIP, Protocol: string(p.Protocol), Port: port}
			if h.Protocol == "" {
				h.Protocol = string(corev1.ProtocolTCP)
			}
			if h.IP == "0.0.0.0" {
				h.IP = ""
			}
			all = append(all, h)
		}
	}
	for _, c := range spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			collect(c)
		}
	}
	for _, c := range spec.Containers {
		collect(c)
	}
	return all
}

// unmodelled names the constraints on placement that no capacity plan evaluates.
func unmodelled(t *corev1.PodTemplateSpec) (all []string) {
	spec := t.Spec
	if len(spec.ResourceClaims) > 0 {
		all = append(all, "resource claims (DRA)")
	}
	for _, c := range spec.TopologySpreadConstraints {
		if c.WhenUnsatisfiable == corev1.DoNotSchedule {
			all = append(all, "topology spread constraints")
			break
		}
	}
	if slices.ContainsFunc(spec.Volumes, restrictsNodes) {
		all = append(all, "volumes that bind it to nodes")
	}
	if a := spec.Affinity; a != nil && a.PodAffinity != nil && len(a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution) > 0 {
		all = append(all, "pod affinity")
	}
	for _, term := range antiAffinity(spec.Affinity) {
		if term.TopologyKey != corev1.LabelHostname || term.NamespaceSelector != nil && !empty(term.NamespaceSelector) ||
			len(term.MatchLabelKeys)+len(term.MismatchLabelKeys) > 0 {
			all = append(all, "pod anti-affinity other than by host name and labels")
			break
		}
	}
	if len(spec.SchedulingGates) > 0 {
		all = append(all, "scheduling gates")
	}
	if s := spec.SchedulerName; s != "" && s != corev1.DefaultSchedulerName {
		all = append(all, "the scheduler "+s)
	}
	if spec.NodeName != "" {
		all = append(all, "a node name")
	}
	return all
}

func empty(s *metav1.LabelSelector) bool { return len(s.MatchLabels)+len(s.MatchExpressions) == 0 }

// restrictsNodes reports whether a volume may restrict the nodes of its pod.
func restrictsNodes(v corev1.Volume) bool {
	s := v.VolumeSource
	free := s.EmptyDir != nil || s.HostPath != nil || s.ConfigMap != nil || s.Secret != nil || s.DownwardAPI != nil ||
		s.Projected != nil || s.NFS != nil || s.Image != nil
	return !free
}

// resolve applies the classes that a template names.
func (t *Template) resolve(c *classes) *cluster.PodTemplate {
	out := t.PodTemplate
	switch p, ok := c.priorities[t.priorityClass]; {
	case ok:
		out.Priority = p.value
		out.PreemptsNever = out.PreemptsNever || p.preemptsNever
	case t.priorityClass == "":
		out.Priority += c.defaultPriority()
	}
	r, ok := c.runtimes[t.runtimeClass]
	if !ok {
		return &out
	}
	out.Requests, out.Limits = maps.Clone(out.Requests), maps.Clone(out.Limits)
	add(out.Requests, r.overhead)
	for name, amount := range r.overhead {
		if out.Limits[name] > 0 { // overhead raises existing limits only
			out.Limits[name] += amount
		}
	}
	if len(r.nodeSelector) > 0 {
		out.NodeSelector = maps.Clone(out.NodeSelector)
		if out.NodeSelector == nil {
			out.NodeSelector = map[string]string{}
		}
		maps.Copy(out.NodeSelector, r.nodeSelector)
	}
	out.Tolerations = slices.Concat(out.Tolerations, r.tolerations)
	return &out
}
