// Package metricsource holds the recent samples of a workload (Window) and evaluates
// PromQL over them (Query, Result). The packages scrape, push and prometheus write
// windows. This package depends neither on KEDA nor on Kubernetes, and makes no scaling
// decision.
//
// A reading of a target is one scrape of it, one report from it, or one query about it.
package metricsource
