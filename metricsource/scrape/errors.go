package scrape

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/inference-scaler/inference-scaler/metricsource"
	"github.com/inference-scaler/inference-scaler/metricsource/exposition"
)

// StatusError: a target answered with another HTTP status than 200.
type StatusError struct {
	Code     int
	Redirect bool // refused: the address to read is the one that was named
}

func (e *StatusError) Error() string {
	if e.Redirect {
		return fmt.Sprintf("HTTP status %d: redirects are not followed", e.Code)
	}
	return fmt.Sprintf("HTTP status %d", e.Code)
}

// connectionError is told without its addresses: the target's is known, and the
// port of one's own would make every error another.
type connectionError struct{ *net.OpError }

func (e *connectionError) Error() string { return e.Err.Error() }
func (e *connectionError) Unwrap() error { return e.OpError }

var (
	errTooLarge    = fmt.Errorf("the body is larger than %d MiB", maxBody>>20)
	errEncoded     = errors.New("the body is compressed, although identity was asked for")
	errIncomplete  = errors.New("the body is cut off: an OpenMetrics body ends with # EOF")
	errCutLine     = errors.New("the body is cut off: it has no length, and ends within a line")
	errNoRoom      = errors.New("no room for the body")
	errTimeout     = errors.New("no answer in time")
	errNotAnswered = errors.New("not read yet")
)

// reason returns the error's class, for a metric label.
func reason(err error) string {
	var (
		syntax *exposition.SyntaxError
		none   *metricsource.NoSeriesError
		status *StatusError
		op     *net.OpError
	)
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, errTimeout), errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.As(err, &none):
		return "no_series"
	case errors.As(err, &syntax), errors.Is(err, errIncomplete), errors.Is(err, errEncoded):
		return "syntax"
	case errors.As(err, &status):
		return "status"
	case errors.Is(err, errTooLarge), errors.Is(err, errNoRoom), errors.Is(err, metricsource.ErrTooManySeries):
		return "too_large"
	case errors.As(err, &op), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "connection"
	default:
		return "other"
	}
}
