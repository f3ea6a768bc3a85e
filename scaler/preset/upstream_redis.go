package preset

// redis_exporter: the lengths of the lists that it is told to check
// (--check-keys), and what of the streams (--check-streams) no consumer group has
// read yet. A stream's own length is not its backlog, for entries stay in it; it is
// taken where there is no group, and never as a key beside that.
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
