package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
)

// switched is an inference server whose one request comes and goes.
type switched struct {
	busy atomic.Bool
	told atomic.Pointer[time.Time] // when it first reported active
}

func (s *switched) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	running := 0
	if s.busy.Load() {
		running = 1
		now := time.Now()
		s.told.CompareAndSwap(nil, &now)
	}
	_, _ = fmt.Fprintf(w, "vllm:num_requests_waiting 0\nvllm:num_requests_running %d\n", running)
}

// streams: how many may be open on one connection, and how soon an event reaches them.
func streams(b *bench) error {
	b.table.part("StreamIsActive, on one connection")
	for _, n := range []int{1, 1000, 10_000} {
		if err := b.streamsOf(n); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) streamsOf(n int) (err error) {
	server := &switched{}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { _ = http.Serve(listener, server) }() //nolint:gosec // it has one caller
	defer func() { err = errors.Join(err, listener.Close()) }()
	s, err := b.product()
	if err != nil {
		return err
	}
	defer s.stop()
	r := ref(0, map[string]string{"engine": "vllm", "interval": "1s", "endpoints": listener.Addr().String()})
	if _, err := s.client.IsActive(b, r); err != nil {
		return err
	}
	if err := sleep(b, 2*time.Second); err != nil {
		return err
	}
	before, err := s.usage()
	if err != nil {
		return err
	}
	heard := make(chan time.Time, 2*n)
	begun := time.Now()
	for range n {
		stream, err := s.client.StreamIsActive(b, r)
		if err != nil {
			return err
		}
		go receive(stream, heard)
	}
	if err := s.until(b, "all streams open", func() (bool, error) {
		open, err := s.metric(b, "inference_scaler_streams")
		return open >= float64(n), err
	}); err != nil {
		return err
	}
	opening := time.Since(begun)
	if err := sleep(b, 5*time.Second); err != nil {
		return err
	}
	after, err := s.usage()
	if err != nil {
		return err
	}
	var firsts, lasts []time.Duration
	for range 15 {
		server.told.Store(nil)
		server.busy.Store(true)
		var first, last time.Time
		for i := range n {
			select {
			case last = <-heard:
			case <-time.After(patience):
				return fmt.Errorf("%d of %d streams heard nothing", n-i, n)
			}
			if i == 0 {
				first = last
			}
		}
		told := *server.told.Load()
		firsts, lasts = append(firsts, first.Sub(told)), append(lasts, last.Sub(told))
		server.busy.Store(false)
		if err := sleep(b, 2500*time.Millisecond); err != nil { // until it has sent that it is idle
			return err
		}
		for len(heard) > 0 { // repeated meanwhile
			<-heard
		}
	}
	slices.Sort(firsts)
	slices.Sort(lasts)
	name := fmt.Sprintf("%d open: ", n)
	b.table.alone(name+"to open one", fmt.Sprintf("%.0f µs", float64(opening.Microseconds())/float64(n)))
	switch each := float64(after.rss-before.rss) / float64(n); {
	case n >= 10_000: // of fewer, what the process grows by at any call is a good part
		b.table.holds(name+"memory of one", kib(each), "≤ 16 KiB", each <= 16<<10)
	case n > 1:
		b.table.alone(name+"memory of one", kib(each))
	}
	b.table.alone(name+"from the server's word to the first message, p50", ms(firsts[len(firsts)/2]))
	b.table.alone(name+"to the last one, p50", ms(lasts[len(lasts)/2]))
	return nil
}

// receive sends the time of each message of the stream, until it ends.
func receive(stream grpc.ServerStreamingClient[externalscaler.IsActiveResponse], heard chan<- time.Time) {
	for {
		if _, err := stream.Recv(); err != nil {
			return
		}
		heard <- time.Now()
	}
}
