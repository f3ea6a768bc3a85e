// Package push takes demand that is reported to it: over gRPC (demand.v1), as JSON
// over HTTP, and as OpenTelemetry metrics (OTLP) over both. A report stands for its time to live; it reaches the windows of
// the triggers that are open for its workload, and the other replicas of the scaler.
//
// Who reports is not trusted: a token names the namespaces that it may report for,
// everything is bounded, and a report that is not newer than the last one of its
// instance changes nothing; where an instance tells its series in parts, that is so of each.
package push
