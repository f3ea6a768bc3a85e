package push

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip" // by which OpenTelemetry Collectors compress
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	demandv1 "github.com/inference-scaler/inference-scaler/proto/demand/v1"
)

// MaxExport bounds one OTLP export on the wire, and when it is unpacked, in bytes.
const MaxExport = 4 << 20

// otlp takes OpenTelemetry metrics as reports: those of a resource are one
// instance's. The resource attribute k8s.namespace.name names the namespace,
// k8s.deployment.name, k8s.statefulset.name or else service.name the workload, and
// k8s.pod.name, service.instance.id or else host.name the instance. Gauges and
// cumulative sums count; a name's dots become underscores, and a monotonic sum's
// name ends with _total.
type otlp struct {
	collectorpb.UnimplementedMetricsServiceServer
	server *Server
}

// RegisterOTLP adds OTLP metrics to a gRPC server.
func (s *Server) RegisterOTLP(to grpc.ServiceRegistrar) {
	collectorpb.RegisterMetricsServiceServer(to, otlp{server: s})
}

// Export implements OTLP over gRPC.
func (o otlp) Export(ctx context.Context, req *collectorpb.ExportMetricsServiceRequest) (*collectorpb.ExportMetricsServiceResponse, error) {
	namespaces, err := o.server.caller(ctx)
	if err != nil {
		return nil, err
	}
	return o.server.export(req, namespaces), nil
}

// ServeOTLP takes OTLP over HTTP, as protobuf or JSON.
func (s *Server) ServeOTLP(w http.ResponseWriter, r *http.Request) {
	namespaces, ok := s.httpCaller(w, r)
	if !ok {
		return
	}
	format, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")) // what cannot be parsed is none of those below
	unmarshal, marshal, fits := proto.Unmarshal, proto.Marshal, unpackable
	switch format {
	case "application/x-protobuf":
	case "application/json":
		unmarshal, marshal, fits = protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal, protojson.Marshal, jsonParts
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
	_, _ = w.Write(reply) // the client went; there is nobody to tell
}

// unpacked reads a body, of which neither the packed nor the unpacked size is above MaxExport.
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

// export takes what can be taken, and says of how many points it could not.
func (s *Server) export(req *collectorpb.ExportMetricsServiceRequest, namespaces []string) *collectorpb.ExportMetricsServiceResponse {
	rejected, reasons := int64(0), []string{}
	refuse := func(points int, err error) {
		if rejected += int64(points); points > 0 && len(reasons) < 4 {
			reasons = append(reasons, err.Error())
		}
	}
	for _, resource := range req.GetResourceMetrics() {
		report := identify(resource.GetResource().GetAttributes())
		for _, scope := range resource.GetScopeMetrics() {
			for _, m := range scope.GetMetrics() {
				points, err := pointsOf(m)
				if err != nil {
					refuse(max(1, len(points)), err)
					continue
				}
				for _, p := range points {
					one, err := sampleOf(m, p)
					if err == nil {
						_, err = parseSample(one, time.Now())
					}
					if err != nil {
						refuse(1, err)
						continue
					}
					report.Sequence = max(report.GetSequence(), one.GetMoment())
					report.Samples = append(report.GetSamples(), one)
				}
			}
		}
		if len(report.GetSamples()) == 0 {
			continue
		}
		var some *droppedError
		switch err := s.store.take(report, namespaces, part); {
		case errors.As(err, &some):
			refuse(some.series, err)
		case err != nil:
			refuse(len(report.GetSamples()), err)
		}
	}
	reply := &collectorpb.ExportMetricsServiceResponse{}
	if rejected > 0 {
		reply.PartialSuccess = &collectorpb.ExportMetricsPartialSuccess{RejectedDataPoints: rejected, ErrorMessage: strings.Join(reasons, "; ")}
	}
	return reply
}

// identify makes of a resource's attributes whose demand it is.
func identify(attributes []*commonpb.KeyValue) *demandv1.ReportRequest {
	byKey := map[string]string{}
	for _, a := range attributes {
		byKey[a.GetKey()] = text(a.GetValue())
	}
	first := func(keys ...string) string {
		for _, key := range keys {
			if byKey[key] != "" {
				return byKey[key]
			}
		}
		return ""
	}
	return &demandv1.ReportRequest{
		Namespace: byKey["k8s.namespace.name"],
		Workload:  first("k8s.deployment.name", "k8s.statefulset.name", "service.name"),
		Instance:  first("k8s.pod.name", "service.instance.id", "host.name"),
	}
}

// pointsOf returns the points of a metric that is a number at a moment.
func pointsOf(m *metricspb.Metric) ([]*metricspb.NumberDataPoint, error) {
	if g := m.GetGauge(); g != nil {
		return g.GetDataPoints(), nil
	}
	sum := m.GetSum()
	if sum == nil {
		return nil, fmt.Errorf("metric %s: wanted: a gauge or a sum", clip(m.GetName()))
	}
	if sum.GetAggregationTemporality() != metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE {
		return sum.GetDataPoints(), fmt.Errorf("metric %s: wanted: cumulative temporality", clip(m.GetName()))
	}
	return sum.GetDataPoints(), nil
}

// noValue is the flag of a point that says only that nothing was recorded.
const noValue = uint32(metricspb.DataPointFlags_DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK)

func sampleOf(m *metricspb.Metric, p *metricspb.NumberDataPoint) (*demandv1.Sample, error) {
	switch {
	case p.GetValue() == nil || p.GetFlags()&noValue != 0:
		return nil, fmt.Errorf("metric %s: a point without a value", clip(m.GetName()))
	case p.GetTimeUnixNano() == 0:
		return nil, fmt.Errorf("metric %s: a point without a time", clip(m.GetName()))
	}
	out := &demandv1.Sample{Name: underscored(m.GetName()), Labels: map[string]string{}, Value: p.GetAsDouble(), Moment: p.GetTimeUnixNano()}
	if m.GetSum().GetIsMonotonic() && !strings.HasSuffix(out.GetName(), "_total") {
		out.Name += "_total"
	}
	if _, whole := p.GetValue().(*metricspb.NumberDataPoint_AsInt); whole {
		out.Value = float64(p.GetAsInt())
	}
	for _, a := range p.GetAttributes() {
		out.Labels[underscored(a.GetKey())] = text(a.GetValue())
	}
	return out, nil
}

// underscored makes a Prometheus name of OpenTelemetry's.
func underscored(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r == ':' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, name)
}

func text(v *commonpb.AnyValue) string {
	switch v := v.GetValue().(type) {
	case *commonpb.AnyValue_StringValue:
		return v.StringValue
	case *commonpb.AnyValue_IntValue:
		return strconv.FormatInt(v.IntValue, 10)
	case *commonpb.AnyValue_BoolValue:
		return strconv.FormatBool(v.BoolValue)
	case *commonpb.AnyValue_DoubleValue:
		return strconv.FormatFloat(v.DoubleValue, 'g', -1, 64)
	}
	return ""
}
