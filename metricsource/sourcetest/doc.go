// Package sourcetest is the conformance suite for writers of a metricsource.Window. Each
// writer runs it from its own tests, with a Source that drives its real server or client.
// Before anything reads the window of a new writer, the writer must pass the suite.
//
// An exchange is one scrape of a target, one query about it, or one report from it. The
// suite's Selection requires the series q; the series w is optional. Every writer must
// behave as follows.
//
// Absent. Before its first response, a target has no series and a zero Status.Answered. A
// series that the target no longer exports is absent. A response without a required
// series is a NoSeriesError; the last samples of that series are kept, or end. No series
// ever has a value that its target did not export: a missing series is never 0.
//
// Failed. A failed exchange returns an error. The last samples are kept unchanged while the
// target exists. Status.Answered remains the time of the last successful exchange, so that
// readers see the age of the samples. The next successful exchange replaces them.
//
// Late. A response after the timeout, or one superseded by a newer response, is a failed
// exchange. Its samples never appear.
//
// Removed. The series and the Status of a target are removed with it, immediately. A
// response in flight is discarded. A target that returns starts without samples.
//
// Huge. A response with more series than a window allows, or with labels larger than the
// largest body, fails as a whole. No part of it is written, and the last samples are kept.
//
// Hostile. NaN and infinities are written unchanged, or rejected. Duplicate samples yield
// one series with one of the values. Invalid UTF-8 is rejected, or replaced. The labels of
// the target take precedence over exported ones, so it cannot write the samples of another
// target.
//
// Cancelled. Close removes all series, even during an exchange. Nothing is written
// afterwards, and no goroutine is left.
package sourcetest
