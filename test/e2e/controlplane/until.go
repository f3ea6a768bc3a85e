package controlplane

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// tick is how often a state that is waited for is looked at.
const tick = 50 * time.Millisecond

type finalError struct{ error }

// Final is an error after which waiting on makes no sense.
func Final(err error) error { return finalError{err} }

// Until waits for a state: until check returns nil. It gives up after the time
// given, or at a Final error, and then returns the last error of check.
func Until(ctx context.Context, patience time.Duration, state string, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	var last error
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil {
			last = err // not the one of being cut short
		}
		if final := (finalError{}); errors.As(err, &final) {
			return fmt.Errorf("waiting until %s: %w", state, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited %s until %s: %w", patience, state, last)
		case <-ticker.C:
		}
	}
}
