// Package inference simulates inference servers: a queueing model of ASR and LLM
// servers that answers for every pod IP with a real exposition, a gateway that
// hands requests to the ready pods of a workload and keeps them while there is
// none, and an open-loop load generator.
//
// The way of a request: [Load] → [Fleet.Submit] (the gateway) → a server's queue
// → one of its slots → done. The requests that wait and run are in the server's
// /metrics, rendered into a body that was captured from such a server.
//
// Pods take part that carry the annotation [EngineAnnotation]; the others say
// what their server is like. Time is real: model loading, service times and
// streaming sessions take as long as they say.
package inference
