package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/inference-scaler/inference-scaler/metricsource/scrape"
	"github.com/inference-scaler/inference-scaler/scaler"
	"github.com/inference-scaler/inference-scaler/scaler/evaluator"
)

// flooded is a scaler's listener for KEDA, and an honest caller from another host.
type flooded struct {
	address string
	crowd   *crowd
	honest  externalscaler.ExternalScalerClient
}

func newFlooded(t *testing.T) *flooded {
	reg := prometheus.NewRegistry()
	s := scaler.New(evaluator.New(evaluator.Options{Scraper: scrape.New(scrape.Options{})}))
	server := newGRPCServer(s, health.NewServer(), insecure.NewCredentials(), reg, slog.New(slog.DiscardHandler))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	elsewhere := bufconn.Listen(1 << 16) // whose connections are of no host of the network
	f := &flooded{address: listener.Addr().String(), crowd: newCrowd(newBoth(listener, elsewhere), "grpc", reg)}
	go func() { _ = server.Serve(f.crowd) }()
	t.Cleanup(server.Stop)
	f.honest = externalscaler.NewExternalScalerClient(dial(t, func(ctx context.Context, _ string) (net.Conn, error) { return elsewhere.DialContext(ctx) }))
	return f
}

func (f *flooded) dial(t *testing.T) *grpc.ClientConn {
	return dial(t, func(ctx context.Context, _ string) (net.Conn, error) {
		var from net.Dialer
		return from.DialContext(ctx, "tcp", f.address)
	})
}

func dial(t *testing.T, dialer func(context.Context, string) (net.Conn, error)) *grpc.ClientConn {
	conn, err := grpc.NewClient("passthrough:///scaler", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(1<<30)), grpc.WithContextDialer(dialer))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// both accepts what either does.
type both struct {
	net.Listener
	other    net.Listener
	accepted chan net.Conn
	closed   chan struct{}
}

func newBoth(one, other net.Listener) *both {
	b := &both{Listener: one, other: other, accepted: make(chan net.Conn), closed: make(chan struct{})}
	for _, l := range []net.Listener{one, other} {
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				select {
				case b.accepted <- conn:
				case <-b.closed:
				}
			}
		}()
	}
	return b
}

func (b *both) Accept() (net.Conn, error) {
	select {
	case conn := <-b.accepted:
		return conn, nil
	case <-b.closed:
		return nil, net.ErrClosed
	}
}

func (b *both) Close() error {
	close(b.closed)
	return errors.Join(b.Listener.Close(), b.other.Close())
}

// served checks that the honest caller is.
func (f *flooded) served(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	reply, err := f.honest.GetMetricSpec(ctx, trigger("honest", "5"))
	require.NoError(t, err)
	require.Len(t, reply.GetMetricSpecs(), 1)
}

func trigger(name, target string) *externalscaler.ScaledObjectRef {
	return &externalscaler.ScaledObjectRef{Namespace: "llm", Name: name, ScalerMetadata: map[string]string{
		"engine": "vllm", "target": target, "endpoints": "127.0.0.1:1",
	}}
}

// Ten thousand connections of one host: few are let in, and others' are served.
func TestConnectionFlood(t *testing.T) {
	f := newFlooded(t)
	f.served(t)
	open := make(chan net.Conn, 10_000)
	var g errgroup.Group
	g.SetLimit(64)
	for range 10_000 {
		g.Go(func() error {
			conn, err := net.DialTimeout("tcp", f.address, time.Minute)
			if err != nil {
				return nil // no descriptor is left to the flood, or no place in the kernel's queue
			}
			_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
			if _, err := conn.Read(make([]byte, 1)); err != nil { // the server's settings, or its close
				return conn.Close()
			}
			open <- conn
			return nil
		})
	}
	require.NoError(t, g.Wait())
	require.LessOrEqual(t, len(open), maxConnectionsOfHost)
	require.GreaterOrEqual(t, testutil.ToFloat64(f.crowd.refused), 5000.0)
	f.served(t)
	close(open)
	for conn := range open {
		require.NoError(t, conn.Close())
	}
	// They leave, and leave nothing behind.
	require.Eventually(t, func() bool {
		f.crowd.mu.Lock()
		defer f.crowd.mu.Unlock()
		return f.crowd.total == 1 && len(f.crowd.of) == 1
	}, time.Minute, 10*time.Millisecond)
	f.served(t)
}

func TestOddCalls(t *testing.T) {
	f := newFlooded(t)
	conn := f.dial(t)
	client := externalscaler.NewExternalScalerClient(conn)

	err := conn.Invoke(t.Context(), "/externalscaler.ExternalScaler/NoSuchMethod", trigger("a", "5"), &externalscaler.IsActiveResponse{})
	require.Equal(t, codes.Unimplemented, status.Code(err), err)
	err = conn.Invoke(t.Context(), "/no.such.Service/Method", trigger("a", "5"), &externalscaler.IsActiveResponse{})
	require.Equal(t, codes.Unimplemented, status.Code(err), err)

	large := trigger("a", "5")
	large.ScalerMetadata["query"] = strings.Repeat("x", 4<<20)
	_, err = client.GetMetricSpec(t.Context(), large)
	require.Equal(t, codes.ResourceExhausted, status.Code(err), err)
	many := trigger("a", "5")
	for i := range 1000 {
		many.ScalerMetadata[fmt.Sprint("key", i)] = "x"
	}
	_, err = client.GetMetricSpec(t.Context(), many)
	require.Equal(t, codes.InvalidArgument, status.Code(err), err)
	_, err = client.GetMetricSpec(t.Context(), &externalscaler.ScaledObjectRef{})
	require.Equal(t, codes.InvalidArgument, status.Code(err), err)

	headers := metadata.AppendToOutgoingContext(t.Context(), "x-large", strings.Repeat("x", 1<<20))
	_, err = client.GetMetricSpec(headers, trigger("a", "5"))
	require.Error(t, err)
	f.served(t)
}

// A hundred thousand distinct metadata for one ScaledObject: few are kept.
func TestMetadataFlood(t *testing.T) {
	f := newFlooded(t)
	client := externalscaler.NewExternalScalerClient(f.dial(t))
	const calls = 100_000
	var taken, refused atomic.Int64
	var g errgroup.Group
	g.SetLimit(100)
	for i := range calls {
		g.Go(func() error {
			_, err := client.IsActive(t.Context(), trigger("one", strconv.Itoa(i+1)))
			switch status.Code(err) {
			case codes.ResourceExhausted:
				refused.Add(1)
			case codes.OK, codes.Unavailable: // nothing is known of it yet
				taken.Add(1)
			default:
				return err
			}
			return nil
		})
	}
	require.NoError(t, g.Wait())
	require.LessOrEqual(t, taken.Load(), int64(100), "of %d", calls)
	require.EqualValues(t, calls, taken.Load()+refused.Load())
	f.served(t)
}
