package cluster

import (
	"errors"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

// Errors of requests to a cluster. All mean that the result is unknown, not empty.
var (
	// ErrNotFound means that the ScaledObject or its scale target does not exist.
	ErrNotFound = errors.New("not found")
	// ErrForbidden means that the API server does not let the scaler read the object.
	ErrForbidden = errors.New("forbidden")
	// ErrNotSynced means that the initial list of the cluster's objects is incomplete.
	ErrNotSynced = errors.New("not synced with the cluster yet")
)

// NamespacedName names a namespaced object.
type NamespacedName struct{ Namespace, Name string }

func (n NamespacedName) String() string { return n.Namespace + "/" + n.Name }

// ScaledObject is the part of a KEDA ScaledObject that this scaler reads.
type ScaledObject struct {
	Namespace, Name string
	// Triggers of the types external and external-push, in the order of the spec.
	Triggers []ScaledObjectTrigger
}

// ScaledObjectTrigger is one external trigger of a ScaledObject.
type ScaledObjectTrigger struct {
	Push     bool // the type is external-push; only this type opens streams
	Metadata map[string]string
}

// Workload is a snapshot of the scale target of one ScaledObject.
type Workload struct {
	Namespace, ScaledObject string
	// Kind and Name of the scale target, from scaleTargetRef. Kind defaults to Deployment.
	Kind, Name string
	// Replicas is the scale target's spec.replicas.
	Replicas int
	// MinReplicas and MaxReplicas of the ScaledObject, with KEDA's defaults (0 and 100).
	MinReplicas, MaxReplicas int
	// Paused means that an annotation stops KEDA from scaling out
	// (autoscaling.keda.sh/paused, paused-replicas or paused-scale-out).
	Paused bool
	// Behavior is the ScaledObject's advanced.horizontalPodAutoscalerConfig.behavior. It is
	// nil if the field is absent or invalid.
	Behavior *autoscalingv2.HorizontalPodAutoscalerBehavior
	// Pods match the scale target's selector. They are in any phase, and ordered by name.
	Pods []Pod
	// Template describes new pods. It is nil if unknown, for example if the scale target is
	// neither a Deployment nor a StatefulSet.
	Template *PodTemplate
}

// Pod is one pod of a Workload.
type Pod struct {
	Name, UID string
	// IP is empty until the kubelet reports it.
	IP string
	// Phase is the pod's status.phase: Pending, Running, Succeeded, Failed or Unknown.
	Phase       string
	Ready       bool   // the Ready condition is True
	Terminating bool   // deletionTimestamp is set
	Node        string // spec.nodeName; empty until the pod is bound
}

// Finished reports whether all containers of the pod have terminated, so that it holds
// no resources.
func (p Pod) Finished() bool { return p.Phase == "Succeeded" || p.Phase == "Failed" }

// Bound reports whether the pod is bound to a node, and neither terminating nor finished.
func (p Pod) Bound() bool { return p.Node != "" && !p.Terminating && !p.Finished() }

// Bound returns the number of bound pods.
func (w *Workload) Bound() (n int) {
	for _, p := range w.Pods {
		if p.Bound() {
			n++
		}
	}
	return n
}

// Within limits a number of replicas to MinReplicas and MaxReplicas, as KEDA and the HPA
// do.
func (w *Workload) Within(replicas int) int {
	replicas = max(replicas, w.MinReplicas)
	if w.MaxReplicas > 0 {
		replicas = min(replicas, w.MaxReplicas)
	}
	return replicas
}

// Endpoint is one address behind a port of a Service.
type Endpoint struct {
	Pod  string // empty if the endpoint has no target pod
	UID  string // of the pod
	IP   string
	Port int
}

// Secret is a Kubernetes Secret.
type Secret struct {
	Data        map[string][]byte
	Annotations map[string]string
}
