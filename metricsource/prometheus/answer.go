package prometheus

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"

	"golang.org/x/sync/semaphore"
)

const (
	maxElements = 10_000
	// maxBody limits a response, in bytes. It suffices for maxElements with their labels.
	maxBody = 4 << 20
	// smallBody is the largest response that needs no slot. A decoded response takes many
	// times its size in memory, so only a few larger ones are decoded concurrently.
	smallBody      = 128 << 10
	largeResponses = 4
)

var (
	errTooLarge = fmt.Errorf("the response is larger than %d MiB", maxBody>>20)
	errTooMany  = fmt.Errorf("the response has more than %d elements", maxElements)
)

// limitedTransport limits the memory for responses.
type limitedTransport struct{ next http.RoundTripper }

func (t limitedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(req)
	if err == nil {
		resp.Body = &limitedBody{ReadCloser: resp.Body, req: req}
	}
	return resp, err
}

type limitedBody struct {
	io.ReadCloser
	req          *http.Request
	read, braces int
}

func (b *limitedBody) Read(p []byte) (int, error) {
	if b.read >= maxBody {
		return 0, errTooLarge
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), maxBody-b.read)])
	b.read += n
	// An element has two braces, and its labels rarely contain any.
	if b.braces += bytes.Count(p[:n], []byte("{")); b.braces > 4*maxElements {
		return n, errTooMany
	}
	if slot, ok := b.req.Context().Value(largeSlotKey{}).(*largeSlot); ok && err == nil && b.read > smallBody {
		err = slot.acquire(b.req.Context())
	}
	return n, err
}

// largeSlot is the slot of one query for a large response.
type largeSlot struct {
	slots *semaphore.Weighted

	mu             sync.Mutex
	held, released bool
}

type largeSlotKey struct{}

func (s *largeSlot) acquire(ctx context.Context) error {
	s.mu.Lock()
	held := s.held
	s.mu.Unlock()
	if held {
		return nil
	}
	if err := s.slots.Acquire(ctx, 1); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.released {
		s.slots.Release(1)
		return context.Canceled
	}
	s.held = true
	return nil
}

// release releases the slot when the query ends. The API client can still be reading the
// body at this time, so acquire fails afterwards.
func (s *largeSlot) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.released = true; s.held {
		s.slots.Release(1)
	}
}
