package preset

// Envoy, with all of its clusters. If it serves other workloads too, select a cluster with an
// upstreamQuery. Envoy does not queue requests for a cluster without hosts. It only counts
// them, as cx_none_healthy.
var envoyUpstream = Upstream{
	Path:     "/stats/prometheus",
	Queued:   Query{PromQL: perInstance(metric("envoy_cluster_upstream_rq_pending_active"))},
	InFlight: Query{PromQL: perInstance(series([]string{"envoy_cluster_upstream_rq_pending_active", "envoy_cluster_upstream_rq_active"}))},
	Arrivals: perInstance(metric("envoy_cluster_upstream_cx_none_healthy")),
}
