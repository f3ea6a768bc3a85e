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

// A body is in memory while it is read, and a hostile target can send a large or endless
// one. Every scrape in flight can have a small body. Larger bodies need a slot, and one
// group gets at most half of the slots. A buffer is up to twice as large as its content.
// Without reuse of buffers, the maximum is 1024 × 256 KiB, 64 × 2 MiB and 4 × 16 MiB. A
// small body can reuse a buffer of up to 1 MiB.
const (
	smallBody  = 128 << 10 // vLLM: 60 KB
	mediumBody = 1 << 20   // SGLang with 8 ranks: 480 KB
	maxBody    = 16 << 20

	mediumBodies = 64
	largeBodies  = 4
)

// bodySlots limit the medium and the large bodies in memory.
type bodySlots struct{ medium, large *semaphore.Weighted }

// newBodySlots returns all slots, divided by the divisor.
func newBodySlots(divisor int64) bodySlots {
	return bodySlots{semaphore.NewWeighted(mediumBodies / divisor), semaphore.NewWeighted(largeBodies / divisor)}
}

var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// free returns a buffer to the pool, unless it is large.
func free(body *bytes.Buffer) {
	if body.Cap() <= mediumBody {
		body.Reset()
		bodies.Put(body)
	}
}

// readBody reads a whole body of at most maxBody into the buffer.
func readBody(ctx context.Context, body *bytes.Buffer, from io.Reader, group, all bodySlots) error {
	release := func() {}
	defer func() { release() }()
	begun, waited, size := time.Now(), time.Duration(0), 0
	for _, class := range []struct {
		limit     int
		ofGroup   *semaphore.Weighted // slots of the group and of the scraper; nil: none needed
		ofAll     *semaphore.Weighted
		allocated int // in advance; 0: the buffer grows
	}{
		{limit: smallBody},
		{limit: mediumBody, ofGroup: group.medium, ofAll: all.medium},
		{limit: maxBody, ofGroup: group.large, ofAll: all.large, allocated: maxBody + 1 + bytes.MinRead},
	} {
		if class.ofAll != nil {
			wait := time.Now()
			next, err := acquire(ctx, class.ofGroup, class.ofAll)
			waited += time.Since(wait)
			release() // the slot of the smaller class
			if release = next; err != nil {
				return bodyLimitError(size)
			}
		}
		if class.allocated > 0 {
			body.Grow(class.allocated - body.Len())
		}
		if _, err := body.ReadFrom(io.LimitReader(from, int64(class.limit+1-body.Len()))); err != nil {
			if ctx.Err() != nil && waited > time.Since(begun)/2 {
				return bodyLimitError(size) // most of the time was lost to waiting for a slot
			}
			return fmt.Errorf("reading the body: %w", err)
		}
		if body.Len() <= class.limit {
			return nil
		}
		size = class.limit
	}
	return errTooLarge
}

// bodyLimitError returns the error of a body of more than size bytes that got no slot in
// time.
func bodyLimitError(size int) error {
	return fmt.Errorf("%w that are larger than %d KiB", errBodyLimit, size>>10)
}

// acquire acquires a slot of the group, and then one of the scraper.
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
