// Package events writes Kubernetes events on ScaledObjects, from the one replica of the
// scaler that holds a Lease.
//
// It needs the verb create on events of group events.k8s.io in the namespaces of the
// ScaledObjects. The package lease states what the Lease needs.
package events
