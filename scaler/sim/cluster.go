package sim

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource"
)

// Cluster is what an API server would say of the simulated fleet: one
// ScaledObject, its Deployment and its pods.
type Cluster struct {
	world  *world
	object metricsource.ScaledObject
	min    int
	max    int
}

// Synced reports that the cluster is known. A model always is.
func (c *Cluster) Synced() bool { return true }

// ScaledObjects lists the only one.
func (c *Cluster) ScaledObjects() []metricsource.ScaledObject {
	return []metricsource.ScaledObject{c.copy()}
}

// ScaledObject returns the only one, or an error that wraps [metricsource.ErrNotFound].
func (c *Cluster) ScaledObject(namespace, name string) (metricsource.ScaledObject, error) {
	if err := c.known(namespace, name); err != nil {
		return metricsource.ScaledObject{}, err
	}
	return c.copy(), nil
}

// Workload returns the ScaledObject's scale target and its pods as they are
// now, or an error that wraps [metricsource.ErrNotFound].
func (c *Cluster) Workload(namespace, name string) (metricsource.Workload, error) {
	if err := c.known(namespace, name); err != nil {
		return metricsource.Workload{}, err
	}
	w := metricsource.Workload{
		Namespace: namespace, ScaledObject: name,
		Kind: "Deployment", Name: name,
		MinReplicas: c.min, MaxReplicas: c.max,
	}
	c.world.look(func(f *Fleet, _ time.Duration) {
		w.Replicas, w.Pods = f.Stats().Replicas, f.Pods()
	})
	return w, nil
}

// Endpoints returns that of the API server, the only Service of the model.
func (c *Cluster) Endpoints(namespace, service, _ string) ([]metricsource.Endpoint, error) {
	if namespace == c.object.Namespace && service == frontService {
		return []metricsource.Endpoint{{Pod: frontService + "-0", IP: frontIP, Port: frontPort}}, nil
	}
	return nil, fmt.Errorf("service %s/%s: %w", namespace, service, metricsource.ErrNotFound)
}

// HasPod reports that the address is a pod's: all addresses of the model are.
func (c *Cluster) HasPod(string, netip.Addr) bool { return true }

// Leader returns the only workload.
func (c *Cluster) Leader(namespace, _, name string) (metricsource.Workload, error) {
	return c.Workload(namespace, name)
}

// Inventory has no nodes yet: the model counts no GPUs.
func (c *Cluster) Inventory() (*metricsource.Inventory, error) { return &metricsource.Inventory{}, nil }

// Run calls onChange once, and then whenever the workload or one of its pods
// has changed, several changes at a time where they come fast, until ctx ends.
// One Run at a time hears of the changes.
func (c *Cluster) Run(ctx context.Context, onChange func(namespace, name string)) error {
	onChange(c.object.Namespace, c.object.Name)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.world.changed:
			onChange(c.object.Namespace, c.object.Name)
		}
	}
}

func (c *Cluster) known(namespace, name string) error {
	if namespace != c.object.Namespace || name != c.object.Name {
		return fmt.Errorf("ScaledObject %s/%s: %w", namespace, name, metricsource.ErrNotFound)
	}
	return nil
}

// copy keeps callers from sharing a map with us.
func (c *Cluster) copy() metricsource.ScaledObject {
	o := c.object
	o.Triggers = append([]metricsource.ScaledObjectTrigger(nil), o.Triggers...)
	for i, t := range o.Triggers {
		o.Triggers[i].Metadata = maps.Clone(t.Metadata)
	}
	return o
}
