// Package inference simulates inference servers. It has three parts: a queueing model
// of ASR and LLM servers, a gateway and an open-loop load generator. The model answers
// for every pod IP with a real exposition. The gateway hands requests to the ready pods
// of a workload, and keeps them while there is none.
//
// The way of a request: [Load] → [Fleet.Submit] (the gateway) → a server's queue
// → one of its slots → done. The requests that wait and run are in the server's
// /metrics, rendered into a body that was captured from such a server.
//
// Pods take part that carry the annotation [EngineAnnotation]; the others say
// what their server is like. Time is real: model loading, service times and
// streaming sessions take as long as they say.
package inference
