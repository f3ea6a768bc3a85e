package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// constant is the peer: an external scaler that always says the same.
type constant struct {
	externalscaler.UnimplementedExternalScalerServer
}

func (constant) GetMetrics(_ context.Context, req *externalscaler.GetMetricsRequest) (*externalscaler.GetMetricsResponse, error) {
	return &externalscaler.GetMetricsResponse{MetricValues: []*externalscaler.MetricValue{{MetricName: req.GetMetricName(), MetricValue: 5, MetricValueFloat: 5}}}, nil
}

func serveConstant() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	externalscaler.RegisterExternalScalerServer(server, constant{})
	fmt.Printf("listening address=%s\n", l.Addr())
	return server.Serve(l)
}

// manyTriggers is how many are live.
const manyTriggers = 10_000

// calls: GetMetrics, beside a handler that always says the same.
func calls(b *bench) (err error) {
	b.table.part("Answering KEDA (GetMetrics by 32 callers on one connection)")
	self, err := os.Executable()
	if err != nil {
		return err
	}
	peer, err := b.start("constant", []string{serveEnv + "=constant"}, self)
	if err != nil {
		return err
	}
	defer peer.stop()
	address, err := peer.logged(b, "address", "listening")
	if err != nil {
		return err
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()

	s, f, stop, err := b.productOf(100)
	if err != nil {
		return err
	}
	defer stop()

	refs := make([]*externalscaler.ScaledObjectRef, manyTriggers)
	for i := range refs {
		refs[i] = ref(i, map[string]string{"engine": "vllm", "interval": "1m", "target": "5", "hold": "10m", "endpoints": f.addresses(i%f.n, 1)[0]})
	}
	if err := open(b, s, refs[:1]); err != nil {
		return err
	}
	before, err := s.usage()
	if err != nil {
		return err
	}
	theirs := externalscaler.NewExternalScalerClient(conn)
	for _, n := range []int{1, manyTriggers} {
		if err := open(b, s, refs[:n]); err != nil {
			return err
		}
		if n > 1 {
			if err := sleep(b, time.Minute); err != nil { // until the first readings are over
				return err
			}
			c, err := s.over(b, measuring)
			if err != nil {
				return err
			}
			b.table.alone("memory per trigger, with its target", kib(float64(c.rss-before.rss)/manyTriggers))
			b.table.alone(fmt.Sprintf("%d triggers, read every minute and not called", n), cores(c.cores))
		}
		peer, ours, err := turns(b, theirs, s.client, refs[:n])
		if err != nil {
			return err
		}
		b.table.row(fmt.Sprintf("calls, %d live triggers", n), rate(ours), "constant handler "+rate(peer), ours/peer, atLeast(0.85))
	}
	return nil
}

// open makes triggers live.
func open(ctx context.Context, s *product, refs []*externalscaler.ScaledObjectRef) error {
	for _, r := range refs {
		if _, err := s.client.IsActive(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// turns are the rates of two servers, measured in turns, as the machine's other work comes
// and goes.
func turns(ctx context.Context, a, b externalscaler.ExternalScalerClient, refs []*externalscaler.ScaledObjectRef) (rateA, rateB float64, err error) {
	const rounds = 5
	for range rounds {
		ofA, errA := callRate(ctx, a, refs)
		ofB, errB := callRate(ctx, b, refs)
		if err := errors.Join(errA, errB); err != nil {
			return 0, 0, err
		}
		rateA += ofA / rounds
		rateB += ofB / rounds
	}
	return rateA, rateB, nil
}

// callRate is how often a second 32 callers get their answer.
func callRate(ctx context.Context, client externalscaler.ExternalScalerClient, refs []*externalscaler.ScaledObjectRef) (float64, error) {
	const callers, took = 32, 4 * time.Second
	var done atomic.Int64
	var failed atomic.Pointer[error]
	var running sync.WaitGroup
	begun := time.Now()
	for caller := range callers {
		running.Go(func() {
			for i := caller; time.Since(begun) < took; i += callers {
				_, err := client.GetMetrics(ctx, &externalscaler.GetMetricsRequest{MetricName: "m", ScaledObjectRef: refs[i%len(refs)]})
				if err != nil {
					failed.Store(&err)
					return
				}
				done.Add(1)
			}
		})
	}
	running.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(done.Load()) / time.Since(begun).Seconds(), nil
}
