// Package metricsource holds what has been observed: the recent samples of a
// workload (Window), what a PromQL query makes of them (Query, Result), and what
// the cluster says of the workload (Workload, Pod). The packages below it fill
// these; none of them knows KEDA or how a decision is made.
package metricsource
