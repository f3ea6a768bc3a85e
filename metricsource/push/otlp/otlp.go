package otlp

import (
	"fmt"
	"strconv"
	"strings"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"

	"github.com/inference-scaler/inference-scaler/metricsource/excerpt"
	demandv1 "github.com/inference-scaler/inference-scaler/proto/demand/v1"
)

// maxName bounds the name of a metric in an error, in bytes.
const maxName = 80

// Reports maps each resource of an export to a report, whose samples carry the moments of
// their points. It calls refuse with the number of points that cannot be mapped, and why. A
// resource without any other point has no report.
func Reports(export *collectorpb.ExportMetricsServiceRequest, refuse func(points int, err error)) []*demandv1.ReportRequest {
	var all []*demandv1.ReportRequest
	for _, resource := range export.GetResourceMetrics() {
		report := identify(resource.GetResource().GetAttributes())
		for _, scope := range resource.GetScopeMetrics() {
			for _, m := range scope.GetMetrics() {
				points, err := pointsOf(m)
				if err != nil {
					refuse(max(1, len(points)), err)
					continue
				}
				for _, p := range points {
					sample, err := sampleOf(m, p)
					if err != nil {
						refuse(1, err)
						continue
					}
					report.Samples = append(report.GetSamples(), sample)
				}
			}
		}
		if len(report.GetSamples()) > 0 {
			all = append(all, report)
		}
	}
	return all
}

// identify returns an empty report for the workload and the instance that the attributes of
// a resource name.
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

// pointsOf returns the points of a metric whose value is one number.
func pointsOf(m *metricspb.Metric) ([]*metricspb.NumberDataPoint, error) {
	if g := m.GetGauge(); g != nil {
		return g.GetDataPoints(), nil
	}
	sum := m.GetSum()
	if sum == nil {
		return nil, fmt.Errorf("metric %s: wanted: a gauge or a sum", excerpt.Of(m.GetName(), maxName))
	}
	if sum.GetAggregationTemporality() != metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE {
		return sum.GetDataPoints(), fmt.Errorf("metric %s: wanted: cumulative temporality", excerpt.Of(m.GetName(), maxName))
	}
	return sum.GetDataPoints(), nil
}

// noValue is the flag of a point that records the absence of a value.
const noValue = uint32(metricspb.DataPointFlags_DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK)

func sampleOf(m *metricspb.Metric, p *metricspb.NumberDataPoint) (*demandv1.Sample, error) {
	switch {
	case p.GetValue() == nil || p.GetFlags()&noValue != 0:
		return nil, fmt.Errorf("metric %s: a point without a value", excerpt.Of(m.GetName(), maxName))
	case p.GetTimeUnixNano() == 0:
		return nil, fmt.Errorf("metric %s: a point without a time", excerpt.Of(m.GetName(), maxName))
	}
	out := &demandv1.Sample{Name: underscored(m.GetName()), Labels: map[string]string{}, Value: p.GetAsDouble(), Moment: p.GetTimeUnixNano()}
	if m.GetSum().GetIsMonotonic() && !strings.HasSuffix(out.GetName(), "_total") {
		out.Name += "_total"
	}
	if _, integer := p.GetValue().(*metricspb.NumberDataPoint_AsInt); integer {
		out.Value = float64(p.GetAsInt())
	}
	for _, a := range p.GetAttributes() {
		out.Labels[underscored(a.GetKey())] = text(a.GetValue())
	}
	return out, nil
}

// underscored replaces the characters that a Prometheus name cannot hold.
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
