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

// StatusError means that a target responded with an HTTP status other than 200.
type StatusError struct {
	Code     int
	Redirect bool // never followed: the configuration determines the address
}

func (e *StatusError) Error() string {
	if e.Redirect {
		return fmt.Sprintf("HTTP status %d: redirects are not followed", e.Code)
	}
	return fmt.Sprintf("HTTP status %d", e.Code)
}

// connectionError omits the addresses from the message. The target's address is known, and
// the changing local port would make every message unique.
type connectionError struct{ *net.OpError }

func (e *connectionError) Error() string { return e.Err.Error() }
func (e *connectionError) Unwrap() error { return e.OpError }

var (
	errTooLarge   = fmt.Errorf("the response body is larger than %d MiB", maxBody>>20)
	errEncoded    = errors.New("the response body is compressed; the request accepts only identity")
	errIncomplete = errors.New("the response body is truncated: an OpenMetrics body must end with # EOF")
	errCutLine    = errors.New("the response body is truncated: it has no length, and its last line is incomplete")
	errBodyLimit  = errors.New("not read: too many responses in flight")
	errTimeout    = errors.New("no response within the timeout")
	errNotRead    = errors.New("not read yet")
)

// reason returns the class of the error, for a metric label.
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
	case errors.Is(err, errTooLarge), errors.Is(err, errBodyLimit), errors.Is(err, metricsource.ErrTooManySeries):
		return "too_large"
	case errors.As(err, &op), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "connection"
	default:
		return "other"
	}
}
