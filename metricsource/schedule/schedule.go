// Package schedule runs things when they are due. Scraping and evaluation share
// it: both have thousands of items, each with a moment of its own, and both must
// cost nothing while none is due.
package schedule

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// Queue holds items by the moment they are due. Its methods are safe for
// concurrent use. Moments should be time.Now().Add(…): such a one stands even if
// the wall clock is set.
type Queue[T comparable] struct {
	mu      sync.Mutex
	items   map[T]*entry[T]
	byDue   entries[T]
	running map[T]bool // true: due again meanwhile
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

// At makes the item due at the given moment, whenever it was due before.
func (q *Queue[T]) At(item T, at time.Time) { q.put(item, at, false) }

// By makes the item due at the given moment, unless it is due sooner.
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
			q.rouse()
		}
	}
}

// Remove takes the item out of the queue. What is running goes on.
func (q *Queue[T]) Remove(item T) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e, ok := q.items[item]; ok {
		heap.Remove(&q.byDue, e.index)
		delete(q.items, item)
	}
}

// Hasten makes the item due sooner, if it is queued at all: not one that runs.
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
		q.rouse()
	}
}

func (q *Queue[T]) rouse() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Run takes items out of the queue as they become due and calls do for each, in
// a goroutine of its own, until ctx ends. It returns when the last do has. No item
// runs twice at once: what becomes due while it runs does so again after that,
// once, however often.
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

// due takes out what is due, and returns how long it is until the next is.
func (q *Queue[T]) due(now time.Time) (due []T, next time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.byDue) > 0 && !q.byDue[0].at.After(now) {
		e := heap.Pop(&q.byDue).(*entry[T])
		delete(q.items, e.item)
		if _, runs := q.running[e.item]; runs {
			q.running[e.item] = true
			continue
		}
		q.running[e.item] = false
		due = append(due, e.item)
	}
	if len(q.byDue) == 0 {
		return due, time.Hour // the first item put in wakes it
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
