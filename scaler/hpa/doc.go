// Package hpa computes what a HorizontalPodAutoscaler with External metrics of
// type AverageValue does in one sync. KEDA creates such HPAs.
//
// It is a model of the controller in Kubernetes 1.37: tolerance, stabilization
// windows, policies, bounds, defaults, and the reasons in the HPA's conditions.
// [Spec.Sync] is the whole sync; `make test-hpa` compares it with the
// controller's own code, over random sequences. Each function names the
// controller's function that it mirrors, in
// [horizontal.go] or [replica_calculator.go].
//
// The package is pure. The time is an argument, and the controller's memory of
// earlier syncs goes in and comes out. A caller can therefore ask what a sync
// would do now, and discard the answer:
//
//	result, _ := spec.Sync(now, hpa.Scale{Spec: 3, Status: 3}, metrics, memory)
//	grows := result.Replicas > 3
//
// Replica counts are those of the scale subresource. spec.replicas is the count
// that the HPA writes, and status.replicas the count of pods that exist. They
// differ while a controller creates or deletes pods.
//
// Not modelled: other metric types, flags of kube-controller-manager that differ
// from their defaults, and HPAScaleToZero (KEDA's HPAs have a minReplicas of at
// least 1).
//
// [horizontal.go]: https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/controller/podautoscaler/horizontal.go
// [replica_calculator.go]: https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/controller/podautoscaler/replica_calculator.go
package hpa
