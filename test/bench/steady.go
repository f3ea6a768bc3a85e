package main

import (
	"fmt"
	"time"
)

// level is what a process holds, the least of a while: a collector of garbage comes and goes.
type level struct {
	goroutines, heap, descriptors, rss float64
}

// steady: nothing grows while the same is done again and again.
func steady(b *bench) error {
	b.table.part(fmt.Sprintf("After %s of 1000 targets at 1s", b.steady))
	s, f, stop, err := b.productOf(1000)
	if err != nil {
		return err
	}
	defer stop()
	if err := s.reads(b, f, "1s"); err != nil {
		return err
	}
	if err := sleep(b, time.Minute); err != nil { // windows fill
		return err
	}
	before, err := b.level(s)
	if err != nil {
		return err
	}
	begun := time.Now()
	servedBefore, err := f.served(b)
	if err != nil {
		return err
	}
	if err := sleep(b, b.steady); err != nil {
		return err
	}
	served, err := f.served(b)
	if err != nil {
		return err
	}
	share := float64(served-servedBefore) / (1000 * time.Since(begun).Seconds())
	b.table.holds("read on time", fmt.Sprintf("%.1f %%", 100*share), "≥ 98 %", share >= 0.98)
	after, err := b.level(s)
	if err != nil {
		return err
	}
	b.table.row("goroutines", fmt.Sprintf("%.0f", after.goroutines), fmt.Sprintf("before %.0f", before.goroutines), after.goroutines/before.goroutines, atMost(1.05))
	b.table.row("live heap", mib(int64(after.heap)), "before "+mib(int64(before.heap)), after.heap/before.heap, atMost(1.2))
	b.table.row("descriptors", fmt.Sprintf("%.0f", after.descriptors), fmt.Sprintf("before %.0f", before.descriptors), after.descriptors/before.descriptors, atMost(1.05))
	b.table.row("memory", mib(int64(after.rss)), "before "+mib(int64(before.rss)), after.rss/before.rss, atMost(1.2))
	return nil
}

// level looks for 20 s.
func (b *bench) level(s *product) (least level, err error) {
	for i := range 40 {
		u, err := s.usage()
		if err != nil {
			return least, err
		}
		open, err := s.descriptors()
		if err != nil {
			return least, err
		}
		goroutines, err := s.metric(b, "go_goroutines")
		if err != nil {
			return least, err
		}
		heap, err := s.metric(b, "go_memstats_heap_alloc_bytes")
		if err != nil {
			return least, err
		}
		now := level{goroutines, heap, float64(open), float64(u.rss)}
		if i == 0 {
			least = now
		}
		least = level{min(least.goroutines, now.goroutines), min(least.heap, now.heap), min(least.descriptors, now.descriptors), min(least.rss, now.rss)}
		if err := sleep(b, 500*time.Millisecond); err != nil {
			return least, err
		}
	}
	return least, nil
}
