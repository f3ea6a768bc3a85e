// Package lease elects one replica of the scaler through a Kubernetes Lease. Whatever
// writes to the cluster asks its Lease whether this replica is the one that writes.
//
// It needs the verbs get, create and update on leases of group coordination.k8s.io in the
// scaler's own namespace.
package lease
