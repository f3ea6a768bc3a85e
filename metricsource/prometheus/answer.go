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
	// maxBody bounds a response: one of maxElements with their labels.
	maxBody = 4 << 20
	// smallBody is the size of a response that waits for no other. Larger ones take
	// turns: a decoded response takes many times its size in memory.
	smallBody    = 128 << 10
	largeAnswers = 4
)

var (
	errTooLarge = fmt.Errorf("the answer is larger than %d MiB", maxBody>>20)
	errTooMany  = fmt.Errorf("the answer has more than %d elements", maxElements)
)

// bounded keeps responses from filling the memory.
type bounded struct{ next http.RoundTripper }

func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(req)
	if err == nil {
		resp.Body = &boundedBody{ReadCloser: resp.Body, req: req}
	}
	return resp, err
}

type boundedBody struct {
	io.ReadCloser
	req          *http.Request
	read, braces int
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.read >= maxBody {
		return 0, errTooLarge
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), maxBody-b.read)])
	b.read += n
	// An element has two, and its labels rarely any.
	if b.braces += bytes.Count(p[:n], []byte("{")); b.braces > 4*maxElements {
		return n, errTooMany
	}
	if t, ok := b.req.Context().Value(turnOf{}).(*turn); ok && err == nil && b.read > smallBody {
		err = t.take(b.req.Context())
	}
	return n, err
}

// turn is a query's among those with large responses.
type turn struct {
	slots *semaphore.Weighted

	mu           sync.Mutex
	taken, ended bool
}

type turnOf struct{}

func (t *turn) take(ctx context.Context) error {
	t.mu.Lock()
	taken := t.taken
	t.mu.Unlock()
	if taken {
		return nil
	}
	if err := t.slots.Acquire(ctx, 1); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		t.slots.Release(1)
		return context.Canceled
	}
	t.taken = true
	return nil
}

// end frees the turn. The body may still be read: the client of the query does not
// wait for the end of that.
func (t *turn) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended = true; t.taken {
		t.slots.Release(1)
	}
}
