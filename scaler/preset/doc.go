// Package preset holds what the scaler knows of inference engines, as data: one
// file an engine, each with PromQL for its load, its work in flight and its
// saturation, and the exposition of a real server (testdata) that proves them.
package preset
