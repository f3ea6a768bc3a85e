// Package inventory watches what decides whether new pods can run: nodes and the pods
// bound to them, ResourceQuotas, the classes that pod templates name, and node autoscalers.
// With the workloads of ScaledObjects, which its caller passes, it builds
// cluster.Inventory.
//
// It has an index and a lock of its own: an update of a node does not wait for an update
// of a workload. Pods of the watched namespaces come from its caller, so that they are
// watched once and change in both indexes together.
//
// RBAC: list and watch on nodes, resourcequotas, priorityclasses and runtimeclasses; on
// the pods of all namespaces if some are not watched; list on nodepools.karpenter.sh; get
// on the ConfigMap cluster-autoscaler-status of kube-system. Without the rights on
// resourcequotas, quotas are not part of an inventory. Without those on nodepools.karpenter.sh
// and the ConfigMap, the autoscaler is unknown. Without any other, there is no inventory.
package inventory
