// Package schedule runs items when they are due. Scraping, queries and evaluation use
// it. They have thousands of items with different due times, and must use no CPU while
// none is due.
package schedule

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// Queue orders items by due time. Its methods are safe for concurrent use. Compute due
// times as time.Now().Add(…): they then have a monotonic clock reading, and a change of
// the wall clock does not affect them.
type Queue[T comparable] struct {
	mu      sync.Mutex
	items   map[T]*entry[T]
	byDue   entries[T]
	running map[T]bool // true if the item became due again while running
	wake    chan struct{}
}

type entry[T comparable] struct {
	item  T
	at    time.Time
	index int
}

// New returns an empty queue.
func New[T comparable]() *Queue[T] {
	return &Queue[T]{items: map[T]*entry[T]{}, running: map[T]bool{}, wake: make(chan struct{}, 1)}
}

// At makes the item due at the given time, and replaces its previous due time.
func (q *Queue[T]) At(item T, at time.Time) { q.put(item, at, false) }

// By makes the item due at the given time, unless it is due sooner.
func (q *Queue[T]) By(item T, at time.Time) { q.put(item, at, true) }

func (q *Queue[T]) put(item T, at time.Time, keepSooner bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e, queued := q.items[item]
	switch {
	case queued && keepSooner && !at.Before(e.at):
	case queued:
		q.move(e, at)
	default:
		e = &entry[T]{item: item, at: at}
		q.items[item] = e
		heap.Push(&q.byDue, e)
		if e.index == 0 {
			q.signal()
		}
	}
}

// Remove removes the item from the queue. It does not stop a running item.
func (q *Queue[T]) Remove(item T) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e, ok := q.items[item]; ok {
		heap.Remove(&q.byDue, e.index)
		delete(q.items, item)
	}
}

// Hasten makes a queued item due at the given time, unless it is due sooner. An item that
// is not in the queue, such as a running one, is unaffected.
func (q *Queue[T]) Hasten(item T, at time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e, queued := q.items[item]; queued && at.Before(e.at) {
		q.move(e, at)
	}
}

func (q *Queue[T]) move(e *entry[T], at time.Time) {
	e.at = at
	heap.Fix(&q.byDue, e.index)
	if e.index == 0 {
		q.signal()
	}
}

// signal makes Run recompute the next due time.
func (q *Queue[T]) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Run removes items from the queue as they become due, and calls do for each in a
// goroutine. It stops when ctx is done, and returns after the last call of do. An item
// never runs concurrently with itself: if it becomes due while running, it runs once more
// afterwards.
func (q *Queue[T]) Run(ctx context.Context, do func(T)) {
	var running sync.WaitGroup
	defer running.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		due, next := q.due(time.Now())
		for _, item := range due {
			running.Go(func() {
				do(item)
				q.done(item)
			})
		}
		timer.Reset(next)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-q.wake:
		}
	}
}

// due removes and returns the items that are due, and the time until the next one.
func (q *Queue[T]) due(now time.Time) (due []T, next time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.byDue) > 0 && !q.byDue[0].at.After(now) {
		e := heap.Pop(&q.byDue).(*entry[T])
		delete(q.items, e.item)
		if _, running := q.running[e.item]; running {
			q.running[e.item] = true
			continue
		}
		q.running[e.item] = false
		due = append(due, e.item)
	}
	if len(q.byDue) == 0 {
		return due, time.Hour // the next put signals Run
	}
	return due, q.byDue[0].at.Sub(now)
}

func (q *Queue[T]) done(item T) {
	q.mu.Lock()
	again := q.running[item]
	delete(q.running, item)
	q.mu.Unlock()
	if again {
		q.By(item, time.Now())
	}
}

// entries implements heap.Interface.
type entries[T comparable] []*entry[T]

func (h entries[T]) Len() int           { return len(h) }
func (h entries[T]) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h entries[T]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *entries[T]) Push(x any) {
	e := x.(*entry[T])
	e.index = len(*h)
	*h = append(*h, e)
}

func (h *entries[T]) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return e
}
