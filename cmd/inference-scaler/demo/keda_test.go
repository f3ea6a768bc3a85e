package demo

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
)

// scripted is a scaler with responses from a test. It records the calls with their seconds.
type scripted struct {
	pb.UnimplementedExternalScalerServer
	spec     func() (*pb.GetMetricSpecResponse, error)
	metrics  func(ctx context.Context) (*pb.GetMetricsResponse, error)
	isActive func(pb.ExternalScaler_StreamIsActiveServer) error
	specs    func(pb.ExternalScaler_StreamMetricSpecServer) error

	mu    sync.Mutex
	begun time.Time
	calls []call
}

type call struct {
	rpc    string
	second int
}

func (s *scripted) note(rpc string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, call{rpc, int(time.Since(s.begun).Seconds())})
}

// callTimes returns the seconds of the calls of an RPC.
func (s *scripted) callTimes(rpc string) (seconds []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		if c.rpc == rpc {
			seconds = append(seconds, c.second)
		}
	}
	return seconds
}

func (s *scripted) GetMetricSpec(context.Context, *pb.ScaledObjectRef) (*pb.GetMetricSpecResponse, error) {
	s.note("GetMetricSpec")
	if s.spec == nil {
		return specResponse("load", 5), nil
	}
	return s.spec()
}

func (s *scripted) GetMetrics(ctx context.Context, r *pb.GetMetricsRequest) (*pb.GetMetricsResponse, error) {
	s.note("GetMetrics")
	if s.metrics == nil {
		return &pb.GetMetricsResponse{MetricValues: []*pb.MetricValue{{MetricName: r.GetMetricName(), MetricValueFloat: 11}}}, nil
	}
	return s.metrics(ctx)
}

func (s *scripted) IsActive(context.Context, *pb.ScaledObjectRef) (*pb.IsActiveResponse, error) {
	s.note("IsActive")
	return &pb.IsActiveResponse{Result: true}, nil
}

func (s *scripted) StreamIsActive(_ *pb.ScaledObjectRef, stream pb.ExternalScaler_StreamIsActiveServer) error {
	s.note("StreamIsActive")
	if s.isActive == nil {
		<-stream.Context().Done()
		return nil
	}
	return s.isActive(stream)
}

func (s *scripted) StreamMetricSpec(_ *pb.ScaledObjectRef, stream pb.ExternalScaler_StreamMetricSpecServer) error {
	s.note("StreamMetricSpec")
	if s.specs == nil {
		return status.Error(codes.Unimplemented, "as before KEDA 2.21")
	}
	return s.specs(stream)
}

func specResponse(name string, target float64) *pb.GetMetricSpecResponse {
	return &pb.GetMetricSpecResponse{MetricSpecs: []*pb.MetricSpec{{MetricName: name, TargetSizeFloat: target}}}
}

// withKEDA runs KEDA with the scaler while f runs, in the time of a synctest bubble.
func withKEDA(t *testing.T, s *scripted, o KEDAOptions, f func(t *testing.T, k *KEDA)) {
	synctest.Test(t, func(t *testing.T) {
		s.begun = time.Now()
		listener := bufconn.Listen(1 << 16)
		server := grpc.NewServer()
		pb.RegisterExternalScalerServer(server, s)
		served := make(chan error, 1)
		go func() { served <- server.Serve(listener) }()
		conn, err := grpc.NewClient("passthrough:///scaler", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
		require.NoError(t, err)

		ctx, cancel := context.WithCancel(t.Context())
		k := NewKEDA(conn, &pb.ScaledObjectRef{Namespace: "ns", Name: "asr"}, o)
		ran := make(chan error, 1)
		go func() { ran <- k.Run(ctx) }()
		f(t, k)
		cancel()
		require.NoError(t, <-ran)
		require.NoError(t, conn.Close())
		server.Stop()
		require.NoError(t, <-served)
	})
}

// pass advances the time of the bubble.
func pass(t *testing.T, d time.Duration) {
	t.Helper()
	<-time.After(d)
	synctest.Wait()
}

func TestKEDAPolls(t *testing.T) {
	s := &scripted{}
	withKEDA(t, s, KEDAOptions{}, func(t *testing.T, k *KEDA) {
		pass(t, 65*time.Second)
		require.Equal(t, []int{0, 0, 30, 60}, s.callTimes("GetMetricSpec"), "for the reconciliation and each poll")
		require.Equal(t, []int{0, 30, 60}, s.callTimes("GetMetrics"))
		require.Equal(t, []int{0, 30, 60}, s.callTimes("IsActive"))
		require.Equal(t, []int{0}, s.callTimes("StreamIsActive"))
		require.Equal(t, []int{0}, s.callTimes("StreamMetricSpec"), "no retry after Unimplemented")

		s.calls = nil
		a, err := k.Query(t.Context())
		require.NoError(t, err)
		require.Equal(t, Answer{ValueMilli: 11_000, TargetMilli: 5_000, Active: true}, a)
		require.Equal(t, []call{{"GetMetricSpec", 65}, {"GetMetrics", 65}, {"IsActive", 65}}, s.calls)
	})
}

func TestKEDABeforeReconciliation(t *testing.T) {
	k := NewKEDA(nil, nil, KEDAOptions{})
	_, err := k.Query(t.Context())
	require.ErrorIs(t, err, errNoHPA)
	_, _, err = k.Value(t.Context())
	require.ErrorIs(t, err, errNoHPA)
}

func TestKEDAStreams(t *testing.T) {
	var healthy atomic.Bool
	s := &scripted{
		isActive: func(stream pb.ExternalScaler_StreamIsActiveServer) error {
			if err := stream.Send(&pb.IsActiveResponse{Result: true}); err != nil || healthy.Load() {
				return err
			}
			return status.Error(codes.Unavailable, "restarting")
		},
		specs: func(stream pb.ExternalScaler_StreamMetricSpecServer) error {
			for _, target := range []float64{5, -1, 7.5} { // the second is invalid
				if err := stream.Send(specResponse("load", target)); err != nil {
					return err
				}
				<-time.After(10 * time.Second)
			}
			return status.Error(codes.Unavailable, "restarting")
		},
	}
	var pushed atomic.Int64
	withKEDA(t, s, KEDAOptions{OnActive: func(active bool) {
		if active {
			pushed.Add(1)
		}
	}}, func(t *testing.T, k *KEDA) {
		var specs []Spec
		for range 3 {
			pass(t, 9*time.Second)
			spec, ok := k.Spec()
			require.True(t, ok)
			specs = append(specs, spec)
		}
		require.Equal(t, []Spec{{"load", 5000}, {"load", 5000}, {"load", 7500}}, specs)
		pass(t, 153*time.Second)
		require.Equal(t, []int{0, 2, 6, 14, 30, 62, 122}, s.callTimes("StreamIsActive"), "an error doubles the backoff, up to a minute")
		require.EqualValues(t, 7, pushed.Load())
		require.Equal(t, []int{0, 32, 64, 96, 128, 160}, s.callTimes("StreamMetricSpec"), "a message resets the backoff")
		healthy.Store(true)
		pass(t, 11*time.Second)
		require.Equal(t, []int{182, 184, 186, 188, 190}, s.callTimes("StreamIsActive")[7:], "a clean end resets the backoff")
	})
}

func TestKEDARepeatsReconciliation(t *testing.T) {
	tries := 0
	s := &scripted{spec: func() (*pb.GetMetricSpecResponse, error) {
		tries++
		switch tries {
		case 1:
			return nil, status.Error(codes.InvalidArgument, "target: missing")
		case 2:
			return &pb.GetMetricSpecResponse{}, nil
		case 3:
			return specResponse("load", 0), nil
		}
		return specResponse("load", 5), nil
	}}
	withKEDA(t, s, KEDAOptions{}, func(t *testing.T, k *KEDA) {
		synctest.Wait()
		require.Empty(t, s.callTimes("StreamIsActive"), "no stream without a metric")
		_, ok := k.Spec()
		require.False(t, ok)
		pass(t, time.Second)
		require.Len(t, s.callTimes("StreamIsActive"), 1)
	})
}

func TestKEDAReadsValues(t *testing.T) {
	for name, tc := range map[string]struct {
		values []*pb.MetricValue
		want   int64
		err    string
	}{
		"float":               {values: []*pb.MetricValue{{MetricValueFloat: 85.499, MetricValue: 86}}, want: 85_499},
		"integer only":        {values: []*pb.MetricValue{{MetricValue: 7}}, want: 7_000},
		"summed, by any name": {values: []*pb.MetricValue{{MetricValueFloat: 1}, {MetricName: "other", MetricValueFloat: 2}}, want: 3_000},
		"zero":                {values: []*pb.MetricValue{{}}, want: 0},
		"none":                {err: `no value for "load"`},
	} {
		t.Run(name, func(t *testing.T) {
			s := &scripted{metrics: func(context.Context) (*pb.GetMetricsResponse, error) {
				return &pb.GetMetricsResponse{MetricValues: tc.values}, nil
			}}
			withKEDA(t, s, KEDAOptions{}, func(t *testing.T, k *KEDA) {
				pass(t, time.Second)
				a, err := k.Query(t.Context())
				if tc.err != "" {
					require.ErrorContains(t, err, tc.err)
					return
				}
				require.NoError(t, err)
				require.Equal(t, tc.want, a.ValueMilli)
				value, target, err := k.Value(t.Context())
				require.NoError(t, err)
				require.Equal(t, tc.want, value)
				require.EqualValues(t, 5000, target)
			})
		})
	}
}

func TestKEDAErrors(t *testing.T) {
	var down atomic.Bool
	s := &scripted{metrics: func(ctx context.Context) (*pb.GetMetricsResponse, error) {
		if !down.Load() {
			<-ctx.Done()
			// The same code as the client's own, because either may come first.
			return nil, status.FromContextError(ctx.Err()).Err()
		}
		return nil, status.Error(codes.Unavailable, "down")
	}}
	withKEDA(t, s, KEDAOptions{Timeout: 3 * time.Second}, func(t *testing.T, k *KEDA) {
		pass(t, 10*time.Second)
		_, err := k.Query(t.Context())
		require.Equal(t, codes.DeadlineExceeded, status.Code(err))
		down.Store(true)
		_, err = k.Query(t.Context())
		require.ErrorContains(t, err, "GetMetrics")
		require.Equal(t, codes.Unavailable, status.Code(err))
	})
}
