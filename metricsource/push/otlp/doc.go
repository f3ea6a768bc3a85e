// Package otlp maps OpenTelemetry metrics to reports of demand. It keeps no state: push
// validates, stores and expires what it returns.
//
// The points of one resource belong to one instance. The resource attribute
// k8s.namespace.name names the namespace, k8s.deployment.name, k8s.statefulset.name or else
// service.name the workload, and k8s.pod.name, service.instance.id or else host.name the
// instance. Gauges and cumulative sums are mapped. The dots of a name become underscores, and
// the name of a monotonic sum ends with _total.
package otlp
