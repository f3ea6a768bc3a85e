// Package kubernetes says what the cluster says of ScaledObjects and of the
// workloads they scale: plain structs of package cluster, answered from
// memory. It is the only importer of client-go.
//
// The way of one fact: an informer lists and watches a kind (watch.go); a
// transform cuts each object down to what is read (trim.go); the index files it
// under the ScaledObjects it concerns and names those whose answer changed
// (index.go); Cluster answers from the index (answer.go). Scale targets other
// than Deployments and StatefulSets are read through their scale subresource
// instead (scale.go).
//
// What is known of capacity goes the same way, over nodes.go, template.go, classes.go,
// quota.go and autoscaler.go, to Inventory.
//
// What this needs of RBAC: list and watch on scaledobjects.keda.sh, on
// deployments and statefulsets of group apps, and on pods, services and
// endpointslices; for capacity list and watch on nodes, resourcequotas,
// priorityclasses, runtimeclasses and the pods of all namespaces, list on
// nodepools.karpenter.sh and get on the ConfigMap cluster-autoscaler-status of
// kube-system; get on the secrets that triggers name, and on the scale subresource
// of any other kind that a ScaledObject names; for Recorder create on events of
// group events.k8s.io, and get, create and update on leases of group
// coordination.k8s.io.
package kubernetes
