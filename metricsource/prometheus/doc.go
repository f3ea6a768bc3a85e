// Package prometheus is a writer of a metricsource.Window: it asks a server that
// speaks Prometheus' HTTP API (Prometheus, Thanos, Mimir, VictoriaMetrics) on an
// interval, and writes the answers under the pods that they are of.
//
// With a Selection, a group asks for the wanted raw series of its pods, which the trigger's
// queries are then evaluated over as over scraped ones: one query for up to 100 pods,
// and a second one for pods without any such series, whether their engine is there and
// idle. A missing series is missing, never zero. Two jobs of the server that scrape one
// pod yield two series of everything. Labels that the target has override theirs: with
// job among the target's Labels, and without instance, the two count once if they scrape
// one port under equal labels, and ports stay apart.
//
// Own queries are asked as they are. Each element of a result is one series; see
// Selector.
package prometheus
