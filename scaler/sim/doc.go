// Package sim is a model of an inference fleet, of KEDA and of the
// HorizontalPodAutoscaler, for `inference-scaler demo`.
//
// It has a pure core and a thin shell. The core ([Fleet], [HPA], [Poisson])
// never reads a clock: every instant is an argument, so the same models can be
// driven by the wall clock, faster than it, or by a trace in virtual time. The
// shell ([Demo]) gives each simulated replica a real HTTP server, opens real
// gRPC streams to the scaler under demonstration, and moves the core along with
// the clock. Nothing of the scaler is modelled: it scrapes and answers as in a
// cluster.
//
// Two kinds of time occur. Story time is that of the models; real time is the
// wall clock's. Story time runs [Story.Speed] times as fast.
package sim
