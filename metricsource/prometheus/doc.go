// Package prometheus has PromQL answered by a server that speaks Prometheus' HTTP
// API: Prometheus itself, Thanos, Mimir, VictoriaMetrics. Questions are asked on
// an interval, whoever wants the answers reads the last ones from memory.
package prometheus
