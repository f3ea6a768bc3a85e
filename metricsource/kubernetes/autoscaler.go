package kubernetes

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

// autoscalerInterval is between two looks for a node autoscaler. They are reads, as a
// watch of what is not installed would only fail, and be logged.
const autoscalerInterval = 10 * time.Second

var nodePools = schema.GroupVersionResource{Group: "karpenter.sh", Version: "v1", Resource: "nodepools"}

// Labels that Karpenter puts on its nodes.
const (
	poolLabel        = "karpenter.sh/nodepool"
	initializedLabel = "karpenter.sh/initialized" // its resources are there, its start-up taints are gone
)

// What the cluster-autoscaler says of itself, and where it does by default.
const (
	statusNamespace = "kube-system"
	statusConfigMap = "cluster-autoscaler-status"
)

// nodeAutoscalers is what they are called among the resources of the inventory.
const nodeAutoscalers = "node autoscalers"

// autoscalers are what was found of each kind.
type autoscalers struct {
	karpenter []nodePool
	cluster   *clusterAutoscaler
	unknown   []string // what could not be read, and why
}

// nodePool is a Karpenter NodePool, with the limits of all its nodes.
type nodePool struct {
	cluster.NodePool
	limits cluster.Resources
}

// clusterAutoscaler is the cluster-autoscaler's status.
type clusterAutoscaler struct{ exhausted bool }

// watchAutoscalers looks for them until ctx is done.
func (c *Cluster) watchAutoscalers(ctx context.Context) {
	tick := time.NewTicker(autoscalerInterval)
	defer tick.Stop()
	for {
		found, err := c.findAutoscalers(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			c.index.autoscalersUnread(err)
		default:
			c.index.setAutoscalers(found)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// findAutoscalers fails where the API server does; what it refuses to tell is unknown.
func (c *Cluster) findAutoscalers(ctx context.Context) (*autoscalers, error) {
	ctx, cancel := context.WithTimeout(ctx, autoscalerInterval)
	defer cancel()
	found := &autoscalers{}
	list, err := c.clients.dynamic.Resource(nodePools).List(ctx, metav1.ListOptions{})
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
	status, err := c.clients.kube.CoreV1().ConfigMaps(statusNamespace).Get(ctx, statusConfigMap, metav1.GetOptions{})
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

// newNodePool reads what decides which nodes a pool may still add.
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

// newClusterAutoscaler reads the status that it writes since its version 1.30. One that
// cannot be read, or says that a group may grow or is still to, leaves open what comes.
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

// autoscalersUnread notes why nothing is known of them; what was known stands.
func (ix *index) autoscalersUnread(err error) {
	ix.mu.Lock()
	if ix.autoscalers == nil {
		ix.autoscalers = &autoscalers{unknown: []string{err.Error()}}
		delete(ix.unread, nodeAutoscalers)
		ix.moved()
	}
	ix.mu.Unlock()
	ix.tellMoved()
}

func (ix *index) setAutoscalers(found *autoscalers) {
	ix.mu.Lock()
	delete(ix.unread, nodeAutoscalers)
	if ix.autoscalers == nil || !reflect.DeepEqual(*ix.autoscalers, *found) {
		ix.autoscalers = found
		ix.moved()
	}
	ix.mu.Unlock()
	ix.tellMoved()
}

// autoscaler says what is known of them all, beside the nodes that there are.
func (ix *index) autoscaler(nodes []*cluster.Node) cluster.NodeAutoscaler {
	found := ix.autoscalers
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
		return cluster.NodeAutoscaler{Found: "nodes of " + cloud + ", whose autoscaler nothing here shows"}
	}
	return cluster.NodeAutoscaler{}
}

// left takes from the limits what the nodes that are ready for work have. Karpenter's
// own status counts those that are only on their way, too: pods that wait for them
// would be taken back.
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

// makesGroups is a provider whose autoscaler makes new groups of nodes, too: when all
// that there are have grown to their limits it has not.
const makesGroups = "gce"

// onPremises are the schemes of provider IDs behind which nobody adds machines.
var onPremises = []string{"kind", "k3s", "rke2", "minikube", "kwok"}

// cloudOf names the provider of a node whose machine somebody might add more of.
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
