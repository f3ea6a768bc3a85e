package preset

// redis_exporter: the lengths of lists (--check-keys), and the stream entries that no consumer
// group has read (--check-streams). The length of a stream is not its backlog, because entries
// remain after they are read. It counts only for streams without a consumer group. A stream
// that is also among the keys counts once.
var redisUpstream = Upstream{
	Path:     "/metrics",
	Queued:   Query{PromQL: redisBacklog(redisLag)},
	InFlight: Query{PromQL: redisBacklog(redisLag + " + " + metric("redis_stream_group_messages_pending"))},
	Arrivals: perInstance(metric("redis_stream_entries_added")),
}

var redisLag = metric("redis_stream_group_lag")

func redisBacklog(ofGroup string) string {
	length := metric("redis_stream_length")
	return perInstance(metric("redis_key_size") + ` unless on (instance, db, key) label_replace(` + length + `, "key", "$1", "stream", "(.*)")` +
		" or max by (instance, db, stream) (" + ofGroup + ")" +
		" or (" + length + " unless on (instance, db, stream) " + redisLag + ")")
}
