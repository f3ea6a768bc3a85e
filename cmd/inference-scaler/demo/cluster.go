package demo

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	"github.com/inference-scaler/inference-scaler/scaler/sim"
)

// Cluster is the API server of the simulated fleets: ScaledObjects, Deployments, pods and nodes.
type Cluster struct {
	world       *world
	deployments []deployment // in the order of the world's fleets
}

// deployment is a workload with its objects in the API server.
type deployment struct {
	Workload
	object   cluster.ScaledObject
	template *cluster.PodTemplate
}

func newDeployment(s Scenario, w Workload, scalerAddress string) deployment {
	t := deployment{Workload: w, object: s.object(w, scalerAddress), template: &cluster.PodTemplate{Requests: cluster.Resources{"pods": 1}}}
	if w.Shape.GPUs > 0 {
		t.template.Requests[sim.GPUResource] = int64(w.Shape.GPUs)
	}
	return t
}

// Synced is always true: the model has no initial list of objects.
func (c *Cluster) Synced() bool { return true }

// ScaledObjects returns all ScaledObjects.
func (c *Cluster) ScaledObjects() (all []cluster.ScaledObject) {
	for _, t := range c.deployments {
		all = append(all, t.copy())
	}
	return all
}

// ScaledObject returns a ScaledObject, or an error that wraps [cluster.ErrNotFound].
func (c *Cluster) ScaledObject(namespace, name string) (cluster.ScaledObject, error) {
	i, err := c.find(namespace, name)
	if err != nil {
		return cluster.ScaledObject{}, err
	}
	return c.deployments[i].copy(), nil
}

// Workload returns the scale target of a ScaledObject with its current pods, or an error that
// wraps [cluster.ErrNotFound].
func (c *Cluster) Workload(namespace, name string) (w cluster.Workload, err error) {
	i, err := c.find(namespace, name)
	if err != nil {
		return cluster.Workload{}, err
	}
	c.world.withFleets(func(fleets []*sim.Fleet, _ time.Duration) { w = c.workload(i, fleets[i]) })
	return w, nil
}

func (c *Cluster) workload(i int, f *sim.Fleet) cluster.Workload {
	t := c.deployments[i]
	return cluster.Workload{
		Namespace: t.object.Namespace, ScaledObject: t.object.Name,
		Kind: "Deployment", Name: t.object.Name,
		Replicas: f.Stats().Replicas, MinReplicas: t.Min, MaxReplicas: t.Max,
		Pods: f.Pods(), Template: t.template,
	}
}

// Endpoints returns the endpoint of the API tier, the only Service of the model.
func (c *Cluster) Endpoints(namespace, service, _ string) ([]cluster.Endpoint, error) {
	if namespace == c.deployments[0].object.Namespace && service == apiTierService {
		return []cluster.Endpoint{{Pod: apiTierService + "-0", IP: apiTierIP, Port: apiTierPort}}, nil
	}
	return nil, fmt.Errorf("service %s/%s: %w", namespace, service, cluster.ErrNotFound)
}

// HasPod is always true: all addresses of the model are addresses of pods.
func (c *Cluster) HasPod(string, netip.Addr) bool { return true }

// Leader returns the workload of that name.
func (c *Cluster) Leader(namespace, _, name string) (cluster.Workload, error) {
	return c.Workload(namespace, name)
}

// Inventory returns the nodes and all workloads.
func (c *Cluster) Inventory() (*cluster.Inventory, error) {
	inv := &cluster.Inventory{}
	c.world.withFleets(func(fleets []*sim.Fleet, _ time.Duration) {
		inv.Nodes = c.world.nodes.Inventory()
		for i, f := range fleets {
			w := c.workload(i, f)
			inv.Workloads = append(inv.Workloads, &w)
		}
	})
	return inv, nil
}

// Run calls onInventory, and onChange for each ScaledObject, at the start and after each change of
// a workload or a pod, until ctx ends. Several changes may cause one call. Only one Run at a time
// receives the changes.
func (c *Cluster) Run(ctx context.Context, onChange func(namespace, name string), onInventory func()) error {
	for {
		onInventory()
		for _, t := range c.deployments {
			onChange(t.object.Namespace, t.object.Name)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-c.world.changed:
		}
	}
}

func (c *Cluster) find(namespace, name string) (int, error) {
	for i, t := range c.deployments {
		if t.object.Namespace == namespace && t.object.Name == name {
			return i, nil
		}
	}
	return 0, fmt.Errorf("ScaledObject %s/%s: %w", namespace, name, cluster.ErrNotFound)
}

// copy returns a copy that shares no map with the original.
func (t deployment) copy() cluster.ScaledObject {
	o := t.object
	o.Triggers = append([]cluster.ScaledObjectTrigger(nil), o.Triggers...)
	for i, trigger := range o.Triggers {
		o.Triggers[i].Metadata = maps.Clone(trigger.Metadata)
	}
	return o
}
