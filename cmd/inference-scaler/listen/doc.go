// Package listen makes the gRPC and HTTP servers of the process. All have connection limits,
// timeouts, recovery from panics, and TLS that reloads its files.
package listen
