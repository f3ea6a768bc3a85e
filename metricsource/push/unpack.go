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

// maxParts bounds the messages within a message that is unpacked: one takes 2 bytes on
// the wire, and a hundred times as many in memory. An export of 8192 points with ten
// attributes each has 172 000.
const maxParts = 200_000

// maxDepth bounds messages within messages: OTLP's own are 6 deep, and an attribute's
// value may hold others.
const maxDepth = 100

// Options are those of a gRPC server for reports: a stranger is refused, and so is a
// message of too many parts, before it is unpacked.
func (s *Server) Options() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.InTapHandle(func(ctx context.Context, call *tap.Info) (context.Context, error) {
			_, err := s.callerOf(ctx, call.Header)
			return ctx, err
		}),
		grpc.ForceServerCodecV2(codec{encoding.GetCodecV2(grpcproto.Name)}),
	}
}

// codec is protobuf's, which counts before it unpacks.
type codec struct{ encoding.CodecV2 }

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if m, ok := v.(proto.Message); ok {
		wire := data.MaterializeToBuffer(mem.DefaultBufferPool())
		defer wire.Free()
		if err := unpackable(wire.ReadOnlyData(), m); err != nil {
			return err
		}
	}
	return c.CodecV2.Unmarshal(data, v)
}

// unpackable refuses what would be too many messages within m.
func unpackable(wire []byte, m proto.Message) error {
	if n := parts(wire, m.ProtoReflect().Descriptor(), maxParts, maxDepth); n > maxParts {
		return fmt.Errorf("a message of more than %d parts, or of more than %d within each other", maxParts, maxDepth)
	}
	return nil
}

// parts counts the messages within one, until they are more than most; those that are
// nested too deeply are. What is no protobuf ends the count: to unpack it fails there, too.
func parts(wire []byte, of protoreflect.MessageDescriptor, most, depth int) (n int) {
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
			n += 1 + parts(within, field.Message(), most-n-1, depth-1)
		}
		wire = wire[head+size:]
	}
	return n
}

// jsonParts is the like of JSON, in which each message begins with a brace.
func jsonParts(text []byte, _ proto.Message) error {
	if n := bytes.Count(text, []byte("{")); n > maxParts {
		return fmt.Errorf("a message of more than %d parts", maxParts)
	}
	return nil
}
