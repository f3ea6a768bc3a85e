package cluster

import corev1 "k8s.io/api/core/v1"

// Resources are amounts by the name of a resource, as in requests and allocatable:
// "cpu" in millicores, "memory" and the like in bytes, "pods" and devices
// ("nvidia.com/gpu") in pieces.
type Resources map[string]int64

// Inventory is what the cluster says, at one moment, of where pods can run and of the
// workloads that want to. It is immutable, and what has not changed is the same
// pointer in the next one.
type Inventory struct {
	Nodes []*Node // ordered by name
	// Workloads are those of ScaledObjects with external triggers, by namespace and name.
	Workloads []*Workload
	Quotas    []*Quota // by namespace and name
	// NoQuotas says why the ResourceQuotas of a namespace are not known; of all, under "".
	NoQuotas   map[string]string
	Autoscaler NodeAutoscaler
}

// Node is a node with the pods that hold something of it.
type Node struct {
	*NodeSpec
	// Pods are those bound to it that have not finished; terminating ones hold what
	// they have until they are gone. Held is the sum of their requests, "pods" their number.
	Pods []*BoundPod
	Held Resources
}

// NodeSpec is a node itself.
type NodeSpec struct {
	Name          string
	Labels        map[string]string
	Taints        []corev1.Taint
	Ready         bool // the Ready condition is True
	Unschedulable bool // cordoned
	ProviderID    string
	Allocatable   Resources
}

// BoundPod is what a pod that is bound to a node keeps others from.
type BoundPod struct {
	Namespace, Name string
	Labels          map[string]string
	Node            string
	Requests        Resources // as the scheduler counts them
	Ports           []HostPort
	Priority        int32
	// Repels are its required anti-affinities.
	Repels []corev1.PodAffinityTerm
}

// HostPort is a port that a pod takes of its node; IP is empty for all addresses.
type HostPort struct {
	IP, Protocol string
	Port         int32
}

// PodTemplate is what a new pod of a workload asks of a node.
type PodTemplate struct {
	Labels map[string]string
	// Requests and Limits are a pod's, as the scheduler and the quotas count them: 1 of "pods", too.
	Requests, Limits Resources
	NodeSelector     map[string]string
	NodeAffinity     *corev1.NodeSelector // required; nil: none
	Tolerations      []corev1.Toleration
	Repels           []corev1.PodAffinityTerm // required anti-affinities
	Ports            []HostPort
	Priority         int32
	PreemptsNever    bool // pods of lower priority do not make room for it
	// Unmodelled names what else decides where the pods run, that nobody here counts.
	Unmodelled []string
}

// Quota is a ResourceQuota of a namespace: what its pods may request, and be limited
// to, all together, and what those that have not finished are.
type Quota struct {
	Namespace, Name    string
	Requests, Limits   Resources // hard; what is not named is free
	Requested, Limited Resources
	// Unmodelled says why nobody here can tell which pods it counts; empty where all.
	Unmodelled string
}

// NodeAutoscaler is what is known of whatever adds nodes to the cluster.
type NodeAutoscaler struct {
	// Unknown says why it is not known whether there is one; empty where it is.
	Unknown string
	// Found says what there is; empty where there is none.
	Found string
	// Exhausted: it has nothing left to add.
	Exhausted bool
	// Pools are what all there is of it may grow to; nil where that is not known.
	Pools []NodePool
}

// NodePool is a kind of nodes that an autoscaler adds, up to a limit.
type NodePool struct {
	Name string
	// Labels of its nodes, as far as they are known beforehand; Allowed are the values
	// of those that are restricted to some.
	Labels  map[string]string
	Allowed map[string][]string
	Taints  []corev1.Taint
	// Left is what all nodes to come may have together; a resource that is not named
	// has no limit. Nodes that it has made, and that are not ready for work yet, are to come.
	Left Resources
}
