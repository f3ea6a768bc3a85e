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

// afterContext is a body that goes on as soon as its context has ended.
type afterContext struct{ ctx context.Context }

func (r afterContext) Read([]byte) (int, error) {
	<-r.ctx.Done()
	return 0, r.ctx.Err()
}

// Room that comes too late for what is left of the body is no fault of the server's.
func TestRoomThatComesLate(t *testing.T) {
	for name, tc := range map[string]struct {
		after time.Duration
		want  error
	}{
		"in the last moment": {399 * time.Millisecond, errNoRoom},
		"late":               {201 * time.Millisecond, errNoRoom},
		"early":              {199 * time.Millisecond, context.DeadlineExceeded},
		"at once":            {0, context.DeadlineExceeded},
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
				require.True(t, group.large.TryAcquire(largeBodies/2), "what it held is free")
				require.True(t, all.large.TryAcquire(largeBodies))
			})
		})
	}
}

// What breaks is broken, however long its room was waited for.
func TestBodyThatBreaksAfterAWait(t *testing.T) {
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
