package push

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/inference-scaler/inference-scaler/metricsource/sourcetest"
	demandv1 "github.com/inference-scaler/inference-scaler/proto/demand/v1"
)

func TestSource(t *testing.T) { sourcetest.Run(t, openSource) }

// source reports its targets over gRPC. A report is under way once its sequence is fixed.
type source struct {
	*Group
	client   demandv1.DemandServiceClient
	sequence uint64
	taken    uint64 // of the last report but those that came late
	there    []string
}

func openSource(t *testing.T, cfg sourcetest.Config) sourcetest.Source {
	store := NewStore(Options{})
	listener := bufconn.Listen(1 << 16)
	push := NewServer(store, tokens(t))
	server := grpc.NewServer(push.Options()...)
	push.Register(server)
	conn, err := grpc.NewClient("passthrough:///push", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(invalidCodec{})),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = server.Serve(listener) })
	running.Go(func() { _ = store.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		_ = conn.Close()
		server.Stop()
		running.Wait()
	})
	return &source{
		Group:  store.Open(Config{Namespace: "asr", Workload: "lightning-asr", Window: cfg.Window, Selection: cfg.Selection, OnReport: func() {}}),
		client: demandv1.NewDemandServiceClient(conn), sequence: 1,
	}
}

func (*source) Label() string { return "instance" }

// Set has the reporters that are left out withdraw their reports.
func (s *source) Set(targets ...string) {
	for _, gone := range s.there {
		if !slices.Contains(targets, gone) {
			s.sequence += 10
			_ = s.report(gone, s.sequence, 0, nil) // one that has not reported has none
		}
	}
	s.there = targets
}

// Begin fixes the sequence of a report; a late one has that of before the last.
func (s *source) Begin(target string) func(sourcetest.Answer) error {
	s.sequence += 10
	sequence := s.sequence
	return func(a sourcetest.Answer) error {
		ttl := MaxTimeToLive
		switch {
		case a.Late:
			sequence = s.taken - 1
		case a.Broken:
			ttl = -time.Second
		default:
			s.taken = sequence
		}
		if err := s.report(target, sequence, ttl, a.Series); err != nil {
			return err
		}
		for _, st := range s.Status() {
			if st.Target == target {
				return st.Err
			}
		}
		return errors.New("the report is not shown")
	}
}

// report sends one report, and returns why it was refused.
func (s *source) report(target string, sequence uint64, ttl time.Duration, series []sourcetest.Series) error {
	r := &demandv1.ReportRequest{
		Namespace: "asr", Workload: "lightning-asr", Instance: target, Sequence: sequence, TimeToLive: durationpb.New(ttl),
	}
	for _, one := range series {
		ls := map[string]string{}
		for k, v := range one.Labels {
			if ls[k] = v; !utf8.ValidString(v) {
				ls[k] = placeholder
			}
		}
		r.Samples = append(r.Samples, &demandv1.Sample{Name: one.Name, Labels: ls, Value: one.Value})
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	stream, err := s.client.Report(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+asrToken))
	if err != nil {
		return err
	}
	_ = stream.Send(r) // Recv says why not
	answer, err := stream.Recv()
	switch {
	case err != nil:
		return err
	case answer.GetOutcome() != demandv1.Outcome_OUTCOME_TAKEN:
		return fmt.Errorf("%s: %s", answer.GetOutcome(), answer.GetError())
	}
	return stream.CloseSend()
}

// placeholder is what invalidCodec replaces on the wire: protobuf refuses to marshal text
// that is not UTF-8, and a hostile reporter does not.
const placeholder = "???"

type invalidCodec struct{}

func (invalidCodec) Name() string { return "proto" }

func (invalidCodec) Marshal(v any) ([]byte, error) {
	b, err := proto.Marshal(v.(proto.Message))
	return bytes.ReplaceAll(b, []byte(placeholder), []byte(sourcetest.InvalidUTF8)), err
}

func (invalidCodec) Unmarshal(data []byte, v any) error {
	return proto.Unmarshal(data, v.(proto.Message))
}
