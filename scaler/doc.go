// Package scaler answers KEDA's five calls from memory.
//
// A live trigger is one ScaledObject's trigger with its targets, the window of
// their samples and its present answer. New evidence (a reading, a change in the
// cluster) makes it evaluate, once for all that came together, and publish an
// immutable answer; the calls only read it, so that the answers of one poll all
// tell the same story.
package scaler
