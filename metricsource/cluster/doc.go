// Package cluster describes a Kubernetes cluster as plain values: the workload of a
// ScaledObject with its pods, and the inventory of nodes, quotas and autoscalers.
// Package kubernetes reads them from the API server. Tests and simulations construct
// them.
package cluster
