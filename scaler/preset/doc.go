// Package preset defines the inference engines and upstreams that the scaler supports, as
// data. Each file holds the PromQL of one engine: its load, its work in flight and its
// saturation. The expositions in testdata are those of real servers, and test the PromQL.
package preset
