// Package kubernetes reads ScaledObjects and the workloads that they scale from the API
// server and answers from memory, in the plain structs of package cluster. Only this
// package and those below it import client-go.
//
// The path of one fact: an informer lists and watches a resource (watch.go). A transform
// reduces each object to what is read (trim.go). The index records it and reports the
// ScaledObjects whose answers changed (index.go). Cluster answers from the index
// (answer.go, leader.go, endpoints.go). Scale targets other than Deployments and
// StatefulSets are read through their scale subresource (scale.go).
//
// Below it: inventory (nodes, quotas, classes, autoscalers), events, lease, and informer,
// which this package and inventory share.
//
// RBAC: list and watch on scaledobjects.keda.sh, on deployments and statefulsets of group
// apps, on pods, services and endpointslices; get on the secrets that triggers name, and
// on the scale subresource of any other kind that a ScaledObject references. Manifests
// also lists horizontalpodautoscalers, with the rights of the user of the command line.
package kubernetes
