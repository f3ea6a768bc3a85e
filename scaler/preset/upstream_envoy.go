package preset

// Envoy, all of its clusters: name one with an upstreamQuery where it serves more
// than this workload. It queues nothing for a cluster without hosts, and says only
// that it had none.
var envoyUpstream = Upstream{
	Path:     "/stats/prometheus",
	Queued:   Query{PromQL: perInstance(metric("envoy_cluster_upstream_rq_pending_active"))},
	InFlight: Query{PromQL: perInstance(series([]string{"envoy_cluster_upstream_rq_pending_active", "envoy_cluster_upstream_rq_active"}))},
	Arrivals: perInstance(metric("envoy_cluster_upstream_cx_none_healthy")),
}
