package push

import (
	"bytes"
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// maxNested bounds the messages within a message: each takes 2 bytes on the wire, and a
// hundred times as many in memory. An export of 8192 points with ten attributes each has
// 172 000.
const maxNested = 200_000

// maxDepth bounds how deep messages are nested. Those of OTLP are 6 deep, and the value of
// an attribute may hold others.
const maxDepth = 100

// Options are the options of a gRPC server for reports: it refuses unauthenticated callers,
// and messages with too many nested ones, before it unpacks a message.
func (s *Server) Options() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.InTapHandle(func(ctx context.Context, call *tap.Info) (context.Context, error) {
			_, err := s.callerOf(ctx, call.Header)
			return ctx, err
		}),
		grpc.ForceServerCodecV2(codec{encoding.GetCodecV2(grpcproto.Name)}),
	}
}

// codec is the codec of protobuf, with bounds that it checks before it unpacks.
type codec struct{ encoding.CodecV2 }

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if m, ok := v.(proto.Message); ok {
		wire := data.MaterializeToBuffer(mem.DefaultBufferPool())
		defer wire.Free()
		if err := withinBounds(wire.ReadOnlyData(), m); err != nil {
			return err
		}
	}
	return c.CodecV2.Unmarshal(data, v)
}

// withinBounds refuses a message with too many nested ones.
func withinBounds(wire []byte, m proto.Message) error {
	if n := nested(wire, m.ProtoReflect().Descriptor(), maxNested, maxDepth); n > maxNested {
		return fmt.Errorf("a message with more than %d nested messages, or nested more than %d deep", maxNested, maxDepth)
	}
	return nil
}

// nested counts the messages within a message, up to one more than most. A message that is
// nested too deep counts as too many. Invalid protobuf ends the count: unpacking fails there, too.
func nested(wire []byte, of protoreflect.MessageDescriptor, most, depth int) (n int) {
	if depth == 0 {
		return most + 1
	}
	for len(wire) > 0 && n <= most {
		number, kind, head := protowire.ConsumeTag(wire)
		if head < 0 {
			return n
		}
		size := protowire.ConsumeFieldValue(number, kind, wire[head:])
		if size < 0 {
			return n
		}
		field := of.Fields().ByNumber(number)
		if field != nil && field.Message() != nil && kind == protowire.BytesType {
			within, _ := protowire.ConsumeBytes(wire[head:])
			n += 1 + nested(within, field.Message(), most-n-1, depth-1)
		}
		wire = wire[head+size:]
	}
	return n
}

// jsonWithinBounds is withinBounds for JSON, where each message begins with a brace.
func jsonWithinBounds(text []byte, _ proto.Message) error {
	if n := bytes.Count(text, []byte("{")); n > maxNested {
		return fmt.Errorf("a message with more than %d nested messages", maxNested)
	}
	return nil
}
