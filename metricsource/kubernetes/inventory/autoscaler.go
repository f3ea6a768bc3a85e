package inventory

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

// autoscalerInterval is the time between two searches for node autoscalers. They are
// read, not watched: a watch on a resource that is not installed fails and is logged.
const autoscalerInterval = 10 * time.Second

var nodePools = schema.GroupVersionResource{Group: "karpenter.sh", Version: "v1", Resource: "nodepools"}

// Labels that Karpenter puts on its nodes.
const (
	poolLabel        = "karpenter.sh/nodepool"
	initializedLabel = "karpenter.sh/initialized" // its devices are registered, its start-up taints are removed
)

// The ConfigMap to which the cluster-autoscaler writes its status by default.
const (
	statusNamespace = "kube-system"
	statusConfigMap = "cluster-autoscaler-status"
)

// nodeAutoscalers is their name among the resources of the inventory.
const nodeAutoscalers = "node autoscalers"

// autoscalers is the result of a search.
type autoscalers struct {
	karpenter []nodePool
	cluster   *clusterAutoscaler
	unknown   []string // reasons why a kind could not be read
}

// nodePool is a Karpenter NodePool, with the limits of all its nodes.
type nodePool struct {
	cluster.NodePool
	limits cluster.Resources
}

// clusterAutoscaler is the cluster-autoscaler's status.
type clusterAutoscaler struct{ exhausted bool }

// pollAutoscalers searches for them until ctx is done.
func (w *Watcher) pollAutoscalers(ctx context.Context) {
	tick := time.NewTicker(autoscalerInterval)
	defer tick.Stop()
	for {
		found, err := w.findAutoscalers(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			w.autoscalersFailed(err)
		default:
			w.setAutoscalers(found)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// findAutoscalers returns an error if the API server fails. A kind that it refuses to
// show is unknown.
func (w *Watcher) findAutoscalers(ctx context.Context) (*autoscalers, error) {
	ctx, cancel := context.WithTimeout(ctx, autoscalerInterval)
	defer cancel()
	found := &autoscalers{}
	list, err := w.opts.Dynamic.Resource(nodePools).List(ctx, metav1.ListOptions{})
	switch {
	case err == nil:
		for _, item := range list.Items {
			p, err := newNodePool(item.Object)
			if err != nil {
				found.unknown = append(found.unknown, fmt.Sprintf("Karpenter's NodePool %s cannot be read: %v", item.GetName(), err))
				continue
			}
			found.karpenter = append(found.karpenter, p)
		}
	case apierrors.IsForbidden(err):
		found.unknown = append(found.unknown, "not allowed to list nodepools.karpenter.sh")
	case !apierrors.IsNotFound(err):
		return nil, fmt.Errorf("listing Karpenter's NodePools: %w", err)
	}
	status, err := w.opts.Kube.CoreV1().ConfigMaps(statusNamespace).Get(ctx, statusConfigMap, metav1.GetOptions{})
	switch {
	case err == nil:
		found.cluster = newClusterAutoscaler(status.Data["status"])
	case apierrors.IsForbidden(err):
		found.unknown = append(found.unknown, "not allowed to get the ConfigMap "+statusNamespace+"/"+statusConfigMap)
	case !apierrors.IsNotFound(err):
		return nil, fmt.Errorf("reading the cluster-autoscaler's status: %w", err)
	}
	return found, nil
}

// newNodePool reads which nodes a pool may add.
func newNodePool(object map[string]any) (nodePool, error) {
	var o struct {
		Metadata metav1.ObjectMeta `json:"metadata"`
		Spec     struct {
			Limits   corev1.ResourceList `json:"limits"`
			Template struct {
				Metadata metav1.ObjectMeta `json:"metadata"`
				Spec     struct {
					Taints       []corev1.Taint                   `json:"taints"`
					Requirements []corev1.NodeSelectorRequirement `json:"requirements"`
				} `json:"spec"`
			} `json:"template"`
		} `json:"spec"`
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object, &o); err != nil {
		return nodePool{}, err
	}
	t := o.Spec.Template
	p := nodePool{limits: amounts(o.Spec.Limits), NodePool: cluster.NodePool{
		Name: o.Metadata.Name, Taints: t.Spec.Taints, Allowed: map[string][]string{},
		Labels: map[string]string{poolLabel: o.Metadata.Name},
	}}
	maps.Copy(p.Labels, t.Metadata.Labels)
	for _, r := range t.Spec.Requirements {
		if r.Operator == corev1.NodeSelectorOpIn {
			p.Allowed[r.Key] = r.Values
		}
	}
	return p, nil
}

// newClusterAutoscaler reads the status format of version 1.30 and later. The autoscaler is
// exhausted if each node group has reached its maximum and all its nodes are ready. A
// status that cannot be read is not proof of that.
func newClusterAutoscaler(status string) *clusterAutoscaler {
	var s struct {
		NodeGroups []struct {
			Health struct {
				NodeCounts struct {
					Registered struct {
						Ready int `json:"ready"`
					} `json:"registered"`
				} `json:"nodeCounts"`
				CloudProviderTarget *int `json:"cloudProviderTarget"`
				MaxSize             *int `json:"maxSize"`
			} `json:"health"`
		} `json:"nodeGroups"`
	}
	if err := yaml.Unmarshal([]byte(status), &s); err != nil || len(s.NodeGroups) == 0 {
		return &clusterAutoscaler{}
	}
	for _, g := range s.NodeGroups {
		h := g.Health
		if h.MaxSize == nil || h.CloudProviderTarget == nil || *h.CloudProviderTarget < *h.MaxSize || h.NodeCounts.Registered.Ready < *h.CloudProviderTarget {
			return &clusterAutoscaler{}
		}
	}
	return &clusterAutoscaler{exhausted: true}
}

// autoscalersFailed records a failed search, unless an earlier one succeeded.
func (w *Watcher) autoscalersFailed(err error) {
	w.update(func() bool {
		if w.autoscalers != nil {
			return false
		}
		w.autoscalers = &autoscalers{unknown: []string{err.Error()}}
		delete(w.unlisted, nodeAutoscalers)
		return true
	})
}

func (w *Watcher) setAutoscalers(found *autoscalers) {
	w.update(func() bool {
		delete(w.unlisted, nodeAutoscalers)
		if w.autoscalers != nil && reflect.DeepEqual(*w.autoscalers, *found) {
			return false
		}
		w.autoscalers = found
		return true
	})
}

// autoscaler summarises the search for the present nodes. Where nothing was found, the
// provider IDs may show that the nodes are a cloud's.
func (w *Watcher) autoscaler(nodes []*cluster.Node) cluster.NodeAutoscaler {
	found := w.autoscalers
	if len(found.unknown) > 0 {
		return cluster.NodeAutoscaler{Unknown: strings.Join(found.unknown, "; ")}
	}
	switch {
	case found.cluster != nil && len(found.karpenter) > 0:
		return cluster.NodeAutoscaler{Found: "Karpenter and the cluster-autoscaler"}
	case found.cluster != nil:
		return cluster.NodeAutoscaler{Found: "the cluster-autoscaler", Exhausted: found.cluster.exhausted && cloudOf(nodes) != makesGroups}
	case len(found.karpenter) > 0:
		out := cluster.NodeAutoscaler{Found: "Karpenter"}
		for _, p := range found.karpenter {
			out.Pools = append(out.Pools, p.left(nodes))
		}
		return out
	}
	if cloud := cloudOf(nodes); cloud != "" {
		return cluster.NodeAutoscaler{Found: "nodes of " + cloud + ", whose autoscaler is not visible"}
	}
	return cluster.NodeAutoscaler{}
}

// left subtracts the nodes that are ready for work from the limits. Karpenter's status also
// counts nodes that are being created. Subtracting those would remove the replicas whose
// pods wait for them.
func (p nodePool) left(nodes []*cluster.Node) cluster.NodePool {
	out := p.NodePool
	out.Left = maps.Clone(p.limits)
	for _, n := range nodes {
		if n.Labels[poolLabel] != p.Name || n.Labels[initializedLabel] != "true" {
			continue
		}
		for name := range out.Left {
			out.Left[name] -= n.Allocatable[name]
		}
	}
	return out
}

// makesGroups is a provider whose autoscaler also creates node groups: it is not
// exhausted when all present groups have reached their maximum.
const makesGroups = "gce"

// onPremises are the schemes of provider IDs without a service that adds machines.
var onPremises = []string{"kind", "k3s", "rke2", "minikube", "kwok"}

// cloudOf returns the scheme of a node's provider ID if a service behind it may add nodes.
func cloudOf(nodes []*cluster.Node) string {
	for _, n := range nodes {
		if n.ProviderID == "" {
			continue
		}
		if u, err := url.Parse(n.ProviderID); err != nil || !slices.Contains(onPremises, u.Scheme) {
			scheme, _, _ := strings.Cut(n.ProviderID, ":")
			return scheme
		}
	}
	return ""
}
