package scrape

import (
	"bytes"
	"context"
	"io"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// afterContext is a body that blocks until its context is done.
type afterContext struct{ ctx context.Context }

func (r afterContext) Read([]byte) (int, error) {
	<-r.ctx.Done()
	return 0, r.ctx.Err()
}

// A timeout after a long wait for a slot is not reported as a fault of the server.
func TestTimeoutAfterAWaitForASlot(t *testing.T) {
	for name, tc := range map[string]struct {
		after time.Duration
		want  error
	}{
		"almost the timeout": {399 * time.Millisecond, errBodyLimit},
		"over a half":        {201 * time.Millisecond, errBodyLimit},
		"under a half":       {199 * time.Millisecond, context.DeadlineExceeded},
		"no wait":            {0, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
				defer cancel()
				group, all := newBodySlots(2), newBodySlots(1)
				require.True(t, group.large.TryAcquire(largeBodies/2))
				go func() {
					time.Sleep(tc.after) // virtual
					group.large.Release(largeBodies / 2)
				}()
				body := io.MultiReader(bytes.NewReader(make([]byte, mediumBody+1)), afterContext{ctx})
				err := readBody(ctx, new(bytes.Buffer), body, group, all)
				require.ErrorIs(t, err, tc.want)
				require.True(t, group.large.TryAcquire(largeBodies/2), "the slot is released")
				require.True(t, all.large.TryAcquire(largeBodies))
			})
		})
	}
}

// A connection error is reported as such, even after a long wait for a slot.
func TestConnectionErrorAfterAWaitForASlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
		defer cancel()
		group, all := newBodySlots(2), newBodySlots(1)
		require.True(t, group.large.TryAcquire(largeBodies/2))
		time.AfterFunc(399*time.Millisecond, func() { group.large.Release(largeBodies / 2) })
		body := io.MultiReader(bytes.NewReader(make([]byte, mediumBody+1)), iotest.ErrReader(io.ErrUnexpectedEOF))
		require.ErrorIs(t, readBody(ctx, new(bytes.Buffer), body, group, all), io.ErrUnexpectedEOF)
	})
}
