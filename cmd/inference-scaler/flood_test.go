package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/inference-scaler/inference-scaler/cmd/inference-scaler/listen"
	"github.com/inference-scaler/inference-scaler/metricsource/push"
	"github.com/inference-scaler/inference-scaler/metricsource/scrape"
	"github.com/inference-scaler/inference-scaler/scaler"
	"github.com/inference-scaler/inference-scaler/scaler/evaluator"
)

// flooded is the four servers of serve.
type flooded struct {
	servers []*listen.Server
	grpc    *listen.Server                      // for KEDA
	honest  externalscaler.ExternalScalerClient // KEDA, from an address outside the flood
}

func newFlooded(t *testing.T) *flooded {
	const anyPort = "127.0.0.1:0"
	tokens := filepath.Join(t.TempDir(), "tokens")
	require.NoError(t, os.WriteFile(tokens, []byte("0123456789abcdef *\n"), 0o600))
	logger := slog.New(slog.DiscardHandler)
	f, reg := &flooded{}, prometheus.NewRegistry()
	flags := serveFlags{grpcAddress: anyPort, httpAddress: anyPort, push: pushFlags{grpcAddress: anyPort, httpAddress: anyPort, tokenFile: tokens, ttl: push.DefaultTimeToLive}}
	pushed, err := newPushing(flags.push, nil, reg, logger)
	require.NoError(t, err)
	e := evaluator.New(evaluator.Options{Scraper: scrape.New(scrape.Options{})})
	s := scaler.New(e)
	f.grpc = newGRPCServer(flags, nil, s, health.NewServer(), reg, logger)
	f.servers = append(pushed.servers(), f.grpc, newHTTPServer(flags, s, e, reg, logger))
	require.Len(t, f.servers, 4)
	require.NoError(t, listen.Open(f.servers...))
	for _, server := range f.servers {
		go func() { _ = server.Serve() }()
		t.Cleanup(func() { _ = server.Close() })
	}
	f.honest = externalscaler.NewExternalScalerClient(f.dial(t, "127.0.0.2"))
	return f
}

// dial connects to the listener for KEDA from a source address.
func (f *flooded) dial(t *testing.T, source string) *grpc.ClientConn {
	conn, err := grpc.NewClient("passthrough:///"+f.grpc.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(1<<30)),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return from(source).DialContext(ctx, "tcp", address)
		}))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// from returns a dialer for a source address in 127.0.0.0/8. On Linux, all of them are local.
func from(source string) *net.Dialer {
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}, Timeout: time.Minute}
}

// flood opens connections and returns those on which the server responds.
func flood(t *testing.T, to *listen.Server, source string, connections int) (answered []net.Conn) {
	request := "GET / HTTP/1.1\r\nHost: test\r\n\r\n"
	if to.GRPC != nil {
		request = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	}
	open := make(chan net.Conn, connections)
	var g errgroup.Group
	g.SetLimit(64)
	for range connections {
		g.Go(func() error {
			conn, err := from(source).DialContext(t.Context(), "tcp", to.Addr().String())
			if err != nil {
				return err
			}
			_ = conn.SetDeadline(time.Now().Add(time.Minute))
			if _, err = conn.Write([]byte(request)); err == nil {
				_, err = conn.Read(make([]byte, 1))
			}
			if err != nil { // the server has closed it
				return conn.Close()
			}
			open <- conn
			return nil
		})
	}
	require.NoError(t, g.Wait())
	close(open)
	for conn := range open {
		answered = append(answered, conn)
		t.Cleanup(func() { _ = conn.Close() })
	}
	return answered
}

// requireServed checks that a call of KEDA succeeds.
func (f *flooded) requireServed(t *testing.T) {
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

// Each listener keeps 256 connections from one address and 4096 in total. KEDA's calls succeed
// meanwhile. A closed connection makes space for the next one.
func TestConnectionFlood(t *testing.T) {
	for i, name := range []string{"push-grpc", "push-http", "grpc", "http"} {
		t.Run(name, func(t *testing.T) {
			f := newFlooded(t)
			f.requireServed(t)
			server := f.servers[i]
			open := flood(t, server, "127.0.0.1", 1000)
			kept := len(open)
			require.Equal(t, 256, kept)
			require.Len(t, flood(t, server, "127.0.0.3", 1), 1)
			total := 257
			if server == f.grpc {
				total++ // the connection of f.honest
			}
			for source := range 20 {
				total += len(flood(t, server, fmt.Sprintf("127.0.1.%d", source), 256))
			}
			require.Equal(t, 4096, total)
			f.requireServed(t)
			require.Empty(t, flood(t, server, "127.0.2.1", 1))
			require.NoError(t, open[0].Close())
			require.Eventually(t, func() bool { return len(flood(t, server, "127.0.2.1", 1)) == 1 }, time.Minute, 10*time.Millisecond)
		})
	}
}

func TestInvalidCalls(t *testing.T) {
	f := newFlooded(t)
	conn := f.dial(t, "127.0.0.1")
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
	f.requireServed(t)
}

// Only a few of a hundred thousand distinct metadata for one ScaledObject become triggers.
func TestMetadataFlood(t *testing.T) {
	f := newFlooded(t)
	client := externalscaler.NewExternalScalerClient(f.dial(t, "127.0.0.1"))
	const calls = 100_000
	var accepted, rejected atomic.Int64
	var g errgroup.Group
	g.SetLimit(100)
	for i := range calls {
		g.Go(func() error {
			_, err := client.IsActive(t.Context(), trigger("one", strconv.Itoa(i+1)))
			switch status.Code(err) {
			case codes.ResourceExhausted:
				rejected.Add(1)
			case codes.OK, codes.Unavailable: // no decision yet
				accepted.Add(1)
			default:
				return err
			}
			return nil
		})
	}
	require.NoError(t, g.Wait())
	require.LessOrEqual(t, accepted.Load(), int64(100), "of %d", calls)
	require.EqualValues(t, calls, accepted.Load()+rejected.Load())
	f.requireServed(t)
}
