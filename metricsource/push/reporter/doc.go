// Package reporter is for Go API servers in front of an inference fleet. It counts
// queued requests and requests in flight, and reports them to inference-scaler
// as they change: a fleet at zero replicas wakes with the first request.
//
// The middleware counts requests in flight. Only the API server knows which of them
// wait for an inference server: it calls Wait around that. Without Wait, set
// upstreamCounts: inflight in the trigger.
package reporter
