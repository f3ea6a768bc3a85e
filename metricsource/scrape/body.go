package scrape

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// Bodies are held in memory while they are read, and a target may make its own large, or
// never end it. Of small ones there may be as many as there are readings under way; larger
// ones wait for each other, and those of one group never hold all that there is for them.
// A buffer is up to twice as large as what it holds: while none is used again, they come to
// 1024 × 256 KiB, 64 × 2 MiB and 4 × 16 MiB at most. A small body may get a buffer of up to
// 1 MiB that a medium one has left.
const (
	smallBody  = 128 << 10 // vLLM's has 60 KB
	mediumBody = 1 << 20   // SGLang's with 8 ranks has 480 KB
	maxBody    = 16 << 20

	mediumBodies = 64
	largeBodies  = 4
)

// bodySlots are those that bodies beyond the small ones need.
type bodySlots struct{ medium, large *semaphore.Weighted }

// newBodySlots returns a share of them: 1 for all, 2 for the half.
func newBodySlots(share int64) bodySlots {
	return bodySlots{semaphore.NewWeighted(mediumBodies / share), semaphore.NewWeighted(largeBodies / share)}
}

var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// free gives a body's memory to the next one, unless it is large.
func free(body *bytes.Buffer) {
	if body.Cap() <= mediumBody {
		body.Reset()
		bodies.Put(body)
	}
}

// readBody reads a body of at most maxBody whole into the buffer.
func readBody(ctx context.Context, body *bytes.Buffer, from io.Reader, group, all bodySlots) error {
	release := func() {}
	defer func() { release() }()
	begun, waited, beyond := time.Now(), time.Duration(0), 0
	for _, class := range []struct {
		limit     int
		ofGroup   *semaphore.Weighted // what it needs of its group's, and of all; nil: nothing
		ofAll     *semaphore.Weighted
		allocated int // at once; 0: as it grows
	}{
		{limit: smallBody},
		{limit: mediumBody, ofGroup: group.medium, ofAll: all.medium},
		{limit: maxBody, ofGroup: group.large, ofAll: all.large, allocated: maxBody + 1 + bytes.MinRead},
	} {
		if class.ofAll != nil {
			wait := time.Now()
			next, err := acquire(ctx, class.ofGroup, class.ofAll)
			waited += time.Since(wait)
			release() // the smaller one's, whether there is a larger or not
			if release = next; err != nil {
				return noRoomFor(beyond)
			}
		}
		if class.allocated > 0 {
			body.Grow(class.allocated - body.Len())
		}
		if _, err := body.ReadFrom(io.LimitReader(from, int64(class.limit+1-body.Len()))); err != nil {
			if ctx.Err() != nil && waited > time.Since(begun)/2 {
				return noRoomFor(beyond) // which came too late
			}
			return fmt.Errorf("reading the body: %w", err)
		}
		if body.Len() <= class.limit {
			return nil
		}
		beyond = class.limit
	}
	return errTooLarge
}

func noRoomFor(beyond int) error {
	return fmt.Errorf("%w, which is larger than %d KiB", errNoRoom, beyond>>10)
}

// acquire takes one of the group's, and then one of all.
func acquire(ctx context.Context, ofGroup, ofAll *semaphore.Weighted) (release func(), err error) {
	if err := ofGroup.Acquire(ctx, 1); err != nil {
		return func() {}, err
	}
	if err := ofAll.Acquire(ctx, 1); err != nil {
		ofGroup.Release(1)
		return func() {}, err
	}
	return func() {
		ofAll.Release(1)
		ofGroup.Release(1)
	}, nil
}
