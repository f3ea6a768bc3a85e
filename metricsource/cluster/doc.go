// Package cluster describes a Kubernetes cluster as plain values: the workload of a
// ScaledObject with its pods, and the inventory of nodes, quotas and autoscalers.
// Package kubernetes fills them from the API server; tests and simulations fill them
// by hand.
package cluster
