package cluster

import (
	"errors"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

// Errors of a cluster that cannot say what it is asked. Both mean "unknown",
// never "none".
var (
	// ErrNotFound: there is no such ScaledObject, or it names a scale target
	// that does not exist.
	ErrNotFound = errors.New("not found")
	// ErrForbidden: the API server refuses to let the scaler read it.
	ErrForbidden = errors.New("forbidden")
	// ErrNotSynced: the cluster's first listing has not ended yet.
	ErrNotSynced = errors.New("not synced with the cluster yet")
)

// NamespacedName names a namespaced object.
type NamespacedName struct{ Namespace, Name string }

func (n NamespacedName) String() string { return n.Namespace + "/" + n.Name }

// ScaledObject is a KEDA ScaledObject as far as this scaler reads it.
type ScaledObject struct {
	Namespace, Name string
	// Triggers are those of type external and external-push, in their order.
	Triggers []ScaledObjectTrigger
}

// ScaledObjectTrigger is one external trigger of a ScaledObject.
type ScaledObjectTrigger struct {
	Push     bool // external-push, which alone opens streams
	Metadata map[string]string
}

// Workload is what the cluster says, at one moment, of the scale target of one
// ScaledObject.
type Workload struct {
	Namespace, ScaledObject string
	// Kind and Name of the scale target, as in scaleTargetRef ("Deployment" where it says nothing).
	Kind, Name string
	// Replicas is the scale target's spec.replicas.
	Replicas int
	// MinReplicas and MaxReplicas are the ScaledObject's, with KEDA's defaults (0 and 100) filled in.
	MinReplicas, MaxReplicas int
	// Paused: an annotation keeps KEDA from scaling the target out (autoscaling.keda.sh/paused,
	// paused-replicas or paused-scale-out).
	Paused bool
	// Behavior is the ScaledObject's advanced.horizontalPodAutoscalerConfig.behavior; nil
	// if it has none, or if it cannot be read.
	Behavior *autoscalingv2.HorizontalPodAutoscalerBehavior
	// Pods match the scale target's selector, whatever their phase, ordered by name.
	Pods []Pod
	// Template is what a new pod of it asks of a node; nil where that is not known, as
	// of a scale target that is neither a Deployment nor a StatefulSet.
	Template *PodTemplate
}

// Pod is one pod of a Workload.
type Pod struct {
	Name, UID string
	// IP is empty until the kubelet reports one.
	IP string
	// Phase is the pod's status.phase: Pending, Running, Succeeded, Failed or Unknown.
	Phase       string
	Ready       bool // the Ready condition is True
	Terminating bool // deletionTimestamp is set
	// Node is where it runs, or will; empty until it is bound to one.
	Node string
}

// Finished reports whether the pod has run to its end and holds nothing any more.
func (p Pod) Finished() bool { return p.Phase == "Succeeded" || p.Phase == "Failed" }

// Bound reports whether the pod runs on a node, or will, and is to stay.
func (p Pod) Bound() bool { return p.Node != "" && !p.Terminating && !p.Finished() }

// Bound is how many of its pods are.
func (w *Workload) Bound() (n int) {
	for _, p := range w.Pods {
		if p.Bound() {
			n++
		}
	}
	return n
}

// Within bounds a number of replicas as KEDA and the HPA do.
func (w *Workload) Within(replicas int) int {
	replicas = max(replicas, w.MinReplicas)
	if w.MaxReplicas > 0 {
		replicas = min(replicas, w.MaxReplicas)
	}
	return replicas
}

// Endpoint is one address that a Service's port leads to.
type Endpoint struct {
	Pod  string // empty where the endpoint names none
	UID  string // of the pod
	IP   string
	Port int
}

// Secret is a Kubernetes Secret.
type Secret struct {
	Data        map[string][]byte
	Annotations map[string]string
}
