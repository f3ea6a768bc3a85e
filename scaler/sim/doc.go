// Package sim models an inference fleet: its replicas, their queues, the GPUs that they hold,
// and the requests that arrive. It is pure: every instant is an argument, so that the same
// models follow the wall clock, run faster, or replay a trace in virtual time.
package sim
