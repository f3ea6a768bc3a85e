// Package demandv1 is the protocol by which demand is reported: demand.proto, and
// the Go that `make generate` makes of it.
package demandv1
