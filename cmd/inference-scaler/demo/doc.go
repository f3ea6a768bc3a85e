// Package demo runs the real scaler with a simulated fleet, for `inference-scaler demo`.
//
// The fleet is the model of [sim]. Each replica has a real HTTP server, which the scaler reads.
// KEDA and the HorizontalPodAutoscaler are models that call the scaler over gRPC. The scaler
// itself is not modelled.
//
// Simulated time is the time of the models. It runs [Scenario.Speed] times as fast as real time.
package demo
