package preset

// Lightning ASR. Active requests do not include streams. The stream queue is in Redis, and
// every pod may report the same queue. So its largest value counts once, for the fleet.
var lightningASR = Preset{
	Port:   9090,
	Path:   "/metrics",
	Target: 5,
	Load:   lightningASRLoad,
	// The load is all work, waiting and running. It is also the work in flight.
	InFlight: lightningASRLoad,
}

var lightningASRLoad = Query{
	PromQL: perPod(series([]string{"asr_active_requests", "asr_active_streams", "asr_batch_queue_depth"})) +
		" or max(" + metric("asr_stream_queue_depth") + ")",
	Needs: []string{metric("asr_active_requests")},
}
