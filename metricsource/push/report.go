package push

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/inference-scaler/inference-scaler/metricsource/excerpt"
	demandv1 "github.com/inference-scaler/inference-scaler/proto/demand/v1"
)

// Limits of one report.
const (
	MinTimeToLive = time.Second
	MaxTimeToLive = 10 * time.Minute
	// DefaultTimeToLive of an OTLP series: 2.5 times the default export interval of the
	// SDKs, 60 s. One export may be lost.
	DefaultTimeToLive = 150 * time.Second
	MaxSamples        = 256
	MaxValue          = 1e15

	maxName       = 253 // bytes, of a Kubernetes object, an instance or a metric
	maxLabels     = 16
	maxLabelValue = 1024
)

// The reasons to refuse a report.
var (
	errInvalid    = errors.New("invalid report")
	errForbidden  = errors.New("forbidden")
	errExhausted  = errors.New("quota exceeded")
	errSuperseded = errors.New("superseded: a newer report of this instance is known")
)

// outcomeOf is the one mapping from errors to the response's outcome.
func outcomeOf(err error) demandv1.Outcome {
	switch {
	case err == nil:
		return demandv1.Outcome_OUTCOME_TAKEN
	case errors.Is(err, errSuperseded):
		return demandv1.Outcome_OUTCOME_STALE
	case errors.Is(err, errForbidden):
		return demandv1.Outcome_OUTCOME_FORBIDDEN
	case errors.Is(err, errExhausted):
		return demandv1.Outcome_OUTCOME_EXHAUSTED
	}
	return demandv1.Outcome_OUTCOME_INVALID
}

// origin is the sender of a report.
type origin int

const (
	fromReporter origin = iota // demand.v1: the report holds all series of the instance
	fromExporter               // OTLP: it holds some of them
	fromPeer                   // another replica: either of the two
)

// workload is the scale target that demand is for.
type workload struct{ namespace, name string }

// report is a valid report.
type report struct {
	workload
	instance string
	// partial: received as OTLP. Each series expires by itself, and the points of one series
	// are ordered by their moments. Any other report is complete.
	partial  bool
	sequence uint64 // of a partial report the latest moment
	expires  time.Time
	withdraw bool // the instance withdraws its reports
	series   []series
}

// series is a series with its newest value.
type series struct {
	labels   labels.Labels // the name among them
	value    float64
	moment   uint64 // of the point, by the exporter's clock, in nanoseconds; 0 in a complete report
	expires  time.Time
	local    bool // received from the exporter itself, not from a peer
	returned bool // the point arrived after the one before it had expired
}

// supersedes reports whether a point counts after another one of its series. A moment may
// repeat: Collectors send points again, and some stamp all of them alike. A moment long
// before the last one is of a clock that was set back.
func (s *series) supersedes(moment uint64, expires time.Time) bool {
	switch {
	case s.moment > moment:
		return true
	case s.moment == moment:
		return !s.expires.Before(expires)
	}
	return s.expires.After(expires) && moment-s.moment > uint64(rememberFor)
}

// proto is the sample that reports the series to a peer.
func (s *series) proto(now time.Time) *demandv1.Sample {
	out := &demandv1.Sample{Labels: map[string]string{}, Value: s.value, Moment: s.moment}
	if s.moment != 0 {
		out.TimeToLive = durationpb.New(s.expires.Sub(now))
	}
	s.labels.Range(func(l labels.Label) {
		if l.Name == model.MetricNameLabel {
			out.Name = l.Value
		} else {
			out.Labels[l.Name] = l.Value
		}
	})
	return out
}

// sizeOf is about what a report with these series takes on the wire, in bytes.
func sizeOf(all []series) int {
	const perSeries = 32
	bytes := 0
	for _, s := range all {
		bytes += perSeries + int(s.labels.ByteSize())
	}
	return bytes
}

// parse validates a request. The error holds everything that is wrong with it. A series that
// was received as OTLP expires after the given time to live.
func parse(r *demandv1.ReportRequest, from origin, timeToLive time.Duration, now time.Time) (report, error) {
	if len(r.GetSamples()) > MaxSamples {
		return report{}, fmt.Errorf("%w: %d samples; at most %d", errExhausted, len(r.GetSamples()), MaxSamples)
	}
	var errs []error
	failf := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, f := range []struct{ name, value string }{
		{"namespace", r.GetNamespace()}, {"workload", r.GetWorkload()}, {"instance", r.GetInstance()},
	} {
		if f.value == "" || len(f.value) > maxName {
			failf("%s: %q; wanted: 1 to %d bytes", f.name, clip(f.value), maxName)
		}
	}
	out := report{workload: workload{r.GetNamespace(), r.GetWorkload()}, instance: r.GetInstance()}
	for _, s := range r.GetSamples() {
		if from == fromReporter && (s.GetTimeToLive() != nil || s.GetMoment() != 0) {
			failf("sample %s: timeToLive and moment are set between replicas only; wanted: none", clip(s.GetName()))
			continue
		}
		parsed, err := parseSample(s)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out.partial = out.partial || parsed.moment != 0
		out.sequence = max(out.sequence, parsed.moment)
		out.series = append(out.series, parsed)
	}
	ttl := timeToLive
	if !out.partial {
		ttl, out.sequence = r.GetTimeToLive().AsDuration(), r.GetSequence()
		out.withdraw = ttl == 0
		if out.sequence == 0 {
			failf("sequence: 0; wanted: larger than that of the report before")
		}
		if !out.withdraw && (ttl < MinTimeToLive || ttl > MaxTimeToLive) {
			failf("timeToLive: %s; wanted: from %s to %s, or 0 to withdraw what was reported", ttl, MinTimeToLive, MaxTimeToLive)
		}
	}
	if len(errs) > 0 {
		return report{}, fmt.Errorf("%w: %w", errInvalid, errors.Join(errs...))
	}
	out.expires = now.Add(ttl)
	for i := range out.series {
		s := &out.series[i]
		s.expires, s.local = out.expires, from != fromPeer
		if rest := r.GetSamples()[i].GetTimeToLive(); rest != nil {
			s.expires = now.Add(min(rest.AsDuration(), ttl))
		}
	}
	return out, nil
}

func parseSample(s *demandv1.Sample) (series, error) {
	name, v, rest := s.GetName(), s.GetValue(), s.GetTimeToLive()
	switch {
	case len(name) > maxName || !model.LegacyValidation.IsValidMetricName(name) || name == "up":
		return series{}, fmt.Errorf("sample %q: wanted: the name of a Prometheus metric", clip(name))
	case !(v >= 0 && v <= MaxValue): // NaN too
		return series{}, fmt.Errorf("sample %s: %v; wanted: a number from 0 to %g", name, v, MaxValue)
	case len(s.GetLabels()) > maxLabels:
		return series{}, fmt.Errorf("sample %s: %d labels; at most %d", name, len(s.GetLabels()), maxLabels)
	case rest != nil && (rest.AsDuration() <= 0 || rest.AsDuration() > MaxTimeToLive):
		return series{}, fmt.Errorf("sample %s: timeToLive: %s; wanted: more than 0, and at most %s", name, rest.AsDuration(), MaxTimeToLive)
	}
	b := labels.NewScratchBuilder(len(s.GetLabels()) + 1)
	b.Add(model.MetricNameLabel, name)
	for k, value := range s.GetLabels() {
		if len(k) > maxName || !model.LegacyValidation.IsValidLabelName(k) || k == model.MetricNameLabel || len(value) > maxLabelValue {
			return series{}, fmt.Errorf("sample %s: label %q of %d bytes; wanted: a Prometheus label of at most %d", name, clip(k), len(value), maxLabelValue)
		}
		b.Add(k, value)
	}
	b.Sort()
	return series{labels: b.Labels(), value: v, moment: s.GetMoment()}, nil
}

// clip shortens a value for an error message.
func clip(s string) string { return excerpt.Of(s, 80) }
