// Package prometheus writes a metricsource.Window from a server with the HTTP API of
// Prometheus (Prometheus, Thanos, Mimir, VictoriaMetrics). It sends instant queries at an
// interval, and writes the results to the pods that they belong to.
//
// With a Selection, a group queries the selected raw series of its pods. The queries of
// the trigger then read them like scraped series. One query covers up to 100 pods. For
// pods without such series, a second query finds out whether the engine runs and is idle.
// A missing series is never 0.
//
// If two jobs of the server scrape a pod, the server has each series twice. The Labels of
// a Target replace the server's labels. They should contain job but not instance: then
// two jobs of one port yield one series, and different ports yield different series.
//
// Own queries are sent unchanged. Each element of their results is one series; see
// metricsource.RemoteQuery.
package prometheus
