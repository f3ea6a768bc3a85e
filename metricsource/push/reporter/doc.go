// Package reporter is for Go API servers in front of an inference fleet: it counts
// the requests that wait and those in flight, and reports them to inference-scaler
// as they change, so that a fleet at zero replicas wakes with the first request.
//
// The middleware counts what is in flight. What waits for a server is known to the
// API server alone: it calls Wait around that. Without it, let the trigger say
// upstreamCounts: inflight.
package reporter
