package preset

// A generic gauge for servers that export only the length of their queue. Running work is
// unknown, so without an inflightQuery the fleet never scales to zero.
var queueDepth = Preset{
	Path:   "/metrics",
	Target: 5,
	Load:   Query{PromQL: perPod(metric("ai_request_queue_depth")), Needs: []string{metric("ai_request_queue_depth")}},
}
