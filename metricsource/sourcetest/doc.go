// Package sourcetest is the conformance suite of the writers of a metricsource.Window.
// Each writer runs it from its own tests, with a Source that drives its real server or
// client. A new writer passes it before anything reads its window.
//
// An exchange is one reading of a target, or one report of it. A Selection needs the series
// q, and w is optional. Every writer does this:
//
// Absent. A target has no series before its first answer, and no time of one. A series
// that the target no longer exports is absent. An answer without a needed series is a
// NoSeriesError; the last samples of that series stay or end. No series ever gets a
// value that its target did not export: missing is never 0.
//
// Failed. An exchange that fails returns an error. The last samples of the target stay
// as they were for as long as the target exists, and Status.Answered stays at the last
// good exchange, so that readers see the samples age. The next good exchange replaces
// them.
//
// Late. An answer after its time limit, or one that a newer answer overtook, is a failed
// exchange. Its samples do not appear later.
//
// Gone. A target that is removed takes its series and its Status with it, at once. An
// answer that was under way then does not appear. A target that returns starts without
// samples.
//
// Huge. An answer of more series than a window holds, or with labels larger than a body
// may be, fails as a whole: no part of it is in the window, and the last samples stay.
//
// Hostile. NaN and the infinities are written as they are, or refused. Two samples of one
// series are one series, with one of the values. Text that is not UTF-8 is refused, or
// made valid. The labels of the target win over those that it claims: it cannot write
// samples of another target.
//
// Cancelled. Close, while an exchange is under way, empties the window. Nothing is
// written afterwards, and no goroutine is left.
package sourcetest
