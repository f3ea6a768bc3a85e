package metricsource

import (
	"strings"
	"time"
)

// Status is what is known of a target from its readings, or its reports.
type Status struct {
	Target   string
	Answered time.Time // of the last good reading; zero where there was none
	Tried    time.Time // of the last reading; zero before the first
	Err      error     // of the last reading
	Idle     bool      // the last good reading was of an engine before its first request
}

// NoSeriesError: a target answered, and its answer holds none of the series that
// a query is about. The engine is another one, or has renamed them.
type NoSeriesError struct {
	Missing []string // what was looked for, as PromQL
	Format  string   // text/html or application/json, if the answer was that
}

func (e *NoSeriesError) Error() string {
	msg := "the target answers, but exports no " + strings.Join(e.Missing, ", and no ")
	if e.Format != "" {
		msg += " (it answers with " + e.Format + ")"
	}
	return msg
}
