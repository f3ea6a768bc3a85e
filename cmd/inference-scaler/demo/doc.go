// Package demo runs the real scaler in front of a simulated fleet, for `inference-scaler demo`.
//
// The fleet is the model of [sim]. Each of its replicas gets a real HTTP server, which the
// scaler reads; KEDA and the HorizontalPodAutoscaler are models that call the scaler over
// gRPC. The scaler itself is not modelled.
//
// There are two kinds of time. Story time is that of the models; it runs [Story.Speed] times
// as fast as real time.
package demo
