// Package push accepts demand that is reported to it: over gRPC (demand.v1), as JSON over
// HTTP, and as OpenTelemetry metrics (OTLP) over both. A report is shown in the windows of
// the triggers that are open for its workload until it expires, is withdrawn or is
// superseded by a newer one. It is forwarded to the other replicas of the scaler.
//
// Reporters are not trusted. A token names the namespaces that it may report for, every
// size has a quota, and a report that is not newer than the last one changes nothing.
package push
