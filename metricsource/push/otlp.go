package push

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip" // by which OpenTelemetry Collectors compress
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/inference-scaler/inference-scaler/metricsource/push/otlp"
	demandv1 "github.com/inference-scaler/inference-scaler/proto/demand/v1"
)

// MaxExport bounds one OTLP export on the wire, and when it is unpacked, in bytes.
const MaxExport = 4 << 20

// exporters is the OTLP service of a Server.
type exporters struct {
	collectorpb.UnimplementedMetricsServiceServer
	server *Server
}

// RegisterOTLP adds OTLP metrics to a gRPC server.
func (s *Server) RegisterOTLP(to grpc.ServiceRegistrar) {
	collectorpb.RegisterMetricsServiceServer(to, exporters{server: s})
}

// Export implements OTLP over gRPC.
func (e exporters) Export(ctx context.Context, req *collectorpb.ExportMetricsServiceRequest) (*collectorpb.ExportMetricsServiceResponse, error) {
	namespaces, err := e.server.caller(ctx)
	if err != nil {
		return nil, err
	}
	return e.server.export(req, namespaces), nil
}

// ServeOTLP accepts OTLP over HTTP, as protobuf or JSON.
func (s *Server) ServeOTLP(w http.ResponseWriter, r *http.Request) {
	namespaces, ok := s.httpCaller(w, r)
	if !ok {
		return
	}
	format, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")) // the switch refuses what cannot be parsed
	unmarshal, marshal, fits := proto.Unmarshal, proto.Marshal, withinBounds
	switch format {
	case "application/x-protobuf":
	case "application/json":
		unmarshal, marshal, fits = protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal, protojson.Marshal, jsonWithinBounds
	default:
		refuse(w, http.StatusUnsupportedMediaType, fmt.Sprintf("Content-Type: %q; wanted: application/x-protobuf or application/json", clip(format)))
		return
	}
	body, code, err := unpacked(w, r)
	if err != nil {
		refuse(w, code, err.Error())
		return
	}
	req := &collectorpb.ExportMetricsServiceRequest{}
	if err := fits(body, req); err != nil {
		refuse(w, http.StatusRequestEntityTooLarge, err.Error())
		return
	}
	if err := unmarshal(body, req); err != nil {
		refuse(w, http.StatusBadRequest, "wanted: an OTLP ExportMetricsServiceRequest: "+clip(err.Error()))
		return
	}
	reply, err := marshal(s.export(req, namespaces))
	if err != nil {
		refuse(w, http.StatusInternalServerError, "internal error")
		return
	}
	w.Header().Set("Content-Type", format)
	_, _ = w.Write(reply) // an error: the client is gone
}

// unpacked reads a body. Neither its packed nor its unpacked size may exceed MaxExport.
func unpacked(w http.ResponseWriter, r *http.Request) (body []byte, code int, err error) {
	reader := io.Reader(http.MaxBytesReader(w, r.Body, MaxExport))
	switch encoding := r.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
	case "gzip":
		if reader, err = gzip.NewReader(reader); err != nil {
			return nil, http.StatusBadRequest, fmt.Errorf("gzip: %w", err)
		}
	default:
		return nil, http.StatusUnsupportedMediaType, fmt.Errorf("Content-Encoding: %q; wanted: gzip or none", clip(encoding))
	}
	body, err = io.ReadAll(io.LimitReader(reader, MaxExport+1))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large) || len(body) > MaxExport:
		return nil, http.StatusRequestEntityTooLarge, fmt.Errorf("an export of more than %d bytes", MaxExport)
	case err != nil:
		return nil, http.StatusBadRequest, err
	}
	return body, 0, nil
}

// export accepts the valid points of an export. Its response holds how many were refused,
// and why.
func (s *Server) export(req *collectorpb.ExportMetricsServiceRequest, namespaces []string) *collectorpb.ExportMetricsServiceResponse {
	refused, reasons := int64(0), []string{}
	refuse := func(points int, err error) {
		if refused += int64(points); points > 0 && len(reasons) < 4 {
			reasons = append(reasons, err.Error())
		}
	}
	for _, report := range otlp.Reports(req, refuse) {
		report.Samples = slices.DeleteFunc(report.GetSamples(), func(sample *demandv1.Sample) bool {
			_, err := parseSample(sample)
			if err != nil {
				refuse(1, err)
			}
			return err != nil
		})
		if len(report.GetSamples()) == 0 {
			continue
		}
		if err := s.store.accept(report, namespaces, fromExporter); err != nil {
			refuse(len(report.GetSamples()), err)
		}
	}
	reply := &collectorpb.ExportMetricsServiceResponse{}
	if refused > 0 {
		reply.PartialSuccess = &collectorpb.ExportMetricsPartialSuccess{RejectedDataPoints: refused, ErrorMessage: strings.Join(reasons, "; ")}
	}
	return reply
}
