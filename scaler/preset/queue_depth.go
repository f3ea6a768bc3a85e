package preset

// The generic gauge of servers that export nothing but a queue. It does not say
// what is running, and so never that a fleet may sleep.
var queueDepth = Preset{
	Path:   "/metrics",
	Target: 5,
	Load:   Query{PromQL: perPod(metric("ai_request_queue_depth")), Needs: []string{metric("ai_request_queue_depth")}},
}
