// Package scaler implements KEDA's external scaler: its RPCs and streams, over the
// answers of an evaluator.
package scaler
