package cluster

import corev1 "k8s.io/api/core/v1"

// Resources maps resource names to amounts, as in requests and allocatable: "cpu" in
// millicores, "memory" and similar resources in bytes, "pods" and devices
// ("nvidia.com/gpu") as counts.
type Resources map[string]int64

// Inventory is a snapshot of the nodes, the quotas and the workloads of the cluster. It
// is immutable. Unchanged objects have the same pointer in the next snapshot.
type Inventory struct {
	Nodes []*Node // ordered by name
	// Workloads belong to ScaledObjects with external triggers; ordered by namespace and name.
	Workloads []*Workload
	Quotas    []*Quota // ordered by namespace and name
	// NoQuotas maps a namespace to the reason why its ResourceQuotas are unknown. The key
	// "" applies to all namespaces.
	NoQuotas   map[string]string
	Autoscaler NodeAutoscaler
}

// Node is a node with the pods that occupy it.
type Node struct {
	*NodeSpec
	// Pods are bound to the node and have not finished. A terminating pod holds its
	// resources until it is deleted.
	Pods []*BoundPod
	Held Resources // sum of the pods' requests; "pods" is the number of pods
}

// NodeSpec describes a node without its pods.
type NodeSpec struct {
	Name          string
	Labels        map[string]string
	Taints        []corev1.Taint
	Ready         bool // the Ready condition is True
	Unschedulable bool // cordoned
	ProviderID    string
	Allocatable   Resources
}

// BoundPod describes how a pod on a node restricts other pods.
type BoundPod struct {
	Namespace, Name string
	Labels          map[string]string
	Node            string
	Requests        Resources // as the scheduler counts them
	Ports           []HostPort
	Priority        int32
	// Repels are the pod's required anti-affinity terms.
	Repels []corev1.PodAffinityTerm
}

// HostPort is a port that a pod occupies on its node. An empty IP means all addresses.
type HostPort struct {
	IP, Protocol string
	Port         int32
}

// PodTemplate describes the scheduling requirements of a workload's new pods.
type PodTemplate struct {
	Labels map[string]string
	// Requests and Limits are those of one pod, as the scheduler and the quotas count
	// them. Each includes 1 of "pods".
	Requests, Limits Resources
	NodeSelector     map[string]string
	NodeAffinity     *corev1.NodeSelector // required terms; nil if there are none
	Tolerations      []corev1.Toleration
	Repels           []corev1.PodAffinityTerm // required anti-affinity terms
	Ports            []HostPort
	Priority         int32
	PreemptsNever    bool // preemptionPolicy is Never
	// Unmodelled names other scheduling constraints, which the capacity plan ignores.
	Unmodelled []string
}

// Quota is a ResourceQuota of a namespace: its hard limits, and its present usage by the
// pods that have not finished.
type Quota struct {
	Namespace, Name    string
	Requests, Limits   Resources // hard limits; other resources are unlimited
	Requested, Limited Resources // usage
	// Unmodelled is the reason why the pods that the quota counts are unknown. It is empty
	// if the quota counts all pods of the namespace.
	Unmodelled string
}

// NodeAutoscaler describes the component that adds nodes to the cluster.
type NodeAutoscaler struct {
	// Unknown is the reason why detection failed, or empty.
	Unknown string
	// Found names the autoscaler; empty if the cluster has none.
	Found string
	// Exhausted means that the autoscaler cannot add nodes.
	Exhausted bool
	// Pools lists all pools of the autoscaler with their limits; nil if unknown.
	Pools []NodePool
}

// NodePool is a group of similar nodes that an autoscaler adds, up to a limit.
type NodePool struct {
	Name string
	// Labels of the nodes that are known in advance. Allowed holds the possible values of
	// labels that are restricted to several.
	Labels  map[string]string
	Allowed map[string][]string
	Taints  []corev1.Taint
	// Left is the total of the resources that future nodes can have. Other resources are
	// unlimited. A node that exists but is not ready for pods counts as a future node.
	Left Resources
}
