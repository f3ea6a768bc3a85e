// Package listen makes the process's gRPC and HTTP servers alike: the same connection
// limits, timeouts, recovery from panics, and TLS that follows its files.
package listen
