package preset

// Lightning ASR. Streams are not among the active requests. The stream queue
// lives in Redis, so every pod may report the same one: its greatest value is
// the fleet's, and belongs to no pod.
var lightningASR = Preset{
	Port:   9090,
	Path:   "/metrics",
	Target: 5,
	Load:   lightningASRLoad,
	// The guide's signal is all the work there is, waiting and running.
	InFlight: lightningASRLoad,
}

var lightningASRLoad = Query{
	PromQL: perPod(series([]string{"asr_active_requests", "asr_active_streams", "asr_batch_queue_depth"})) +
		" or max(" + metric("asr_stream_queue_depth") + ")",
	Needs: []string{metric("asr_active_requests")},
}
