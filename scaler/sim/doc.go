// Package sim models an inference fleet: its replicas, their queues, their GPUs and the arriving
// requests. It is pure: every instant is an argument. The same models therefore run in real time,
// faster, or in virtual time.
package sim
