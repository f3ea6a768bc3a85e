package metricsource

import (
	"strings"
	"time"
)

// Status is the result of a target's last readings.
type Status struct {
	Target   string
	Answered time.Time // of the last successful reading; zero before the first
	Tried    time.Time // of the last reading; zero before the first
	Err      error     // of the last reading
	Idle     bool      // the last successful reading found an engine before its first request
}

// NoSeriesError means that a target responded without the series that a query requires.
// The target is probably another engine, or another version with other metric names.
type NoSeriesError struct {
	Missing []string // the requirements, as PromQL
	Format  string   // text/html or application/json if the response has that type
}

func (e *NoSeriesError) Error() string {
	msg := "the target responds, but exports no " + strings.Join(e.Missing, ", and no ")
	if e.Format != "" {
		msg += " (the response is " + e.Format + ")"
	}
	return msg
}
