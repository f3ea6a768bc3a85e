// Package metricsource holds samples: the recent ones of a workload (Window), and the
// result of a PromQL query over them (Query, Result). The packages scrape, push and
// prometheus write windows. Nothing here knows KEDA, Kubernetes or how a decision is made.
package metricsource
