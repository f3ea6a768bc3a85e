package push

import (
	"errors"
	"fmt"
	"slices"
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
	MaxSamples    = 256
	MaxValue      = 1e15

	maxName       = 253 // bytes, of a Kubernetes object, an instance or a metric
	maxLabels     = 16
	maxLabelValue = 1024
)

// The errors of a report that is not taken.
var (
	errInvalid   = errors.New("not taken")
	errForbidden = errors.New("forbidden")
	errExhausted = errors.New("too much")
	errStale     = errors.New("a newer report of this instance is known")
)

// outcomeOf is the one mapping from errors to the answer's outcome.
func outcomeOf(err error) demandv1.Outcome {
	switch {
	case err == nil:
		return demandv1.Outcome_OUTCOME_TAKEN
	case errors.Is(err, errStale):
		return demandv1.Outcome_OUTCOME_STALE
	case errors.Is(err, errForbidden):
		return demandv1.Outcome_OUTCOME_FORBIDDEN
	case errors.Is(err, errExhausted):
		return demandv1.Outcome_OUTCOME_EXHAUSTED
	}
	return demandv1.Outcome_OUTCOME_INVALID
}

// workload names what demand is for.
type workload struct{ namespace, name string }

// report is one report that is right in itself.
type report struct {
	workload
	instance string
	sequence uint64
	ttl      time.Duration // 0 takes back
	parts    bool          // each of its series has its own time, and the ttl says nothing
	samples  []sample
}

type sample struct {
	labels labels.Labels // the name among them
	value  float64
	word
}

// request is what still stands of a report of parts, as replicas tell it.
func (p *report) request(now time.Time) *demandv1.ReportRequest {
	req := &demandv1.ReportRequest{Namespace: p.namespace, Workload: p.name, Instance: p.instance, Sequence: p.sequence}
	longest := MinTimeToLive
	for _, s := range p.samples {
		if left := s.end().Sub(now); left > 0 {
			longest = max(longest, left)
			req.Samples = append(req.Samples, s.proto(now))
		}
	}
	req.TimeToLive = durationpb.New(longest)
	return req
}

// saidAt is what was said at a moment.
func (p report) saidAt(at time.Time) report {
	p.samples = slices.DeleteFunc(slices.Clone(p.samples), func(s sample) bool { return !s.at.Equal(at) })
	return p
}

// said is when the last of its series was.
func (p *report) said() time.Time {
	last := time.Time{}
	for _, s := range p.samples {
		if s.at.After(last) {
			last = s.at
		}
	}
	return last
}

// ends is when it, or the first of its series, stands no more.
func (p *report) ends(said time.Time) time.Time {
	if !p.parts {
		return said.Add(p.ttl)
	}
	first := p.samples[0].end()
	for _, s := range p.samples[1:] {
		if s.end().Before(first) {
			first = s.end()
		}
	}
	return first
}

// proto is the sample as replicas tell it.
func (s sample) proto(now time.Time) *demandv1.Sample {
	out := &demandv1.Sample{Labels: map[string]string{}, Value: s.value, TimeToLive: durationpb.New(s.end().Sub(now)), Age: durationpb.New(now.Sub(s.at)), Moment: s.moment}
	s.labels.Range(func(l labels.Label) {
		if l.Name == model.MetricNameLabel {
			out.Name = l.Value
		} else {
			out.Labels[l.Name] = l.Value
		}
	})
	return out
}

// parse checks a request: all that is wrong with it is in the error.
func parse(r *demandv1.ReportRequest, by way, now time.Time) (report, error) {
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
	if r.GetSequence() == 0 {
		failf("sequence: 0; wanted: larger than that of the report before")
	}
	ttl := r.GetTimeToLive().AsDuration()
	if ttl != 0 && (ttl < MinTimeToLive || ttl > MaxTimeToLive) {
		failf("timeToLive: %s; wanted: from %s to %s, or 0 to take back what was reported", ttl, MinTimeToLive, MaxTimeToLive)
	}
	out := report{
		workload: workload{r.GetNamespace(), r.GetWorkload()}, instance: r.GetInstance(),
		sequence: r.GetSequence(), ttl: ttl,
	}
	for _, s := range r.GetSamples() {
		if by == told && (s.GetTimeToLive() != nil || s.GetAge() != nil || s.GetMoment() != 0) {
			failf("sample %s: timeToLive, age and moment are between replicas; wanted: none, as the report has them", clip(s.GetName()))
			continue
		}
		parsed, err := parseSample(s, now)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out.samples = append(out.samples, parsed)
		out.parts = out.parts || s.GetTimeToLive() != nil
	}
	if len(errs) > 0 {
		return report{}, fmt.Errorf("%w: %w", errInvalid, errors.Join(errs...))
	}
	return out, nil
}

func parseSample(s *demandv1.Sample, now time.Time) (sample, error) {
	name, v := s.GetName(), s.GetValue()
	switch {
	case len(name) > maxName || !model.LegacyValidation.IsValidMetricName(name) || name == "up":
		return sample{}, fmt.Errorf("sample %q: wanted: the name of a Prometheus metric", clip(name))
	case !(v >= 0 && v <= MaxValue): // NaN too
		return sample{}, fmt.Errorf("sample %s: %v; wanted: a number from 0 to %g", name, v, MaxValue)
	case len(s.GetLabels()) > maxLabels:
		return sample{}, fmt.Errorf("sample %s: %d labels; at most %d", name, len(s.GetLabels()), maxLabels)
	}
	left, age := s.GetTimeToLive().AsDuration(), s.GetAge().AsDuration()
	if s.GetTimeToLive() != nil && (left <= 0 || left > MaxTimeToLive) || age < 0 || age > MaxTimeToLive {
		return sample{}, fmt.Errorf("sample %s: timeToLive: %s, age: %s; wanted: at most %s each", name, left, age, MaxTimeToLive)
	}
	b := labels.NewScratchBuilder(len(s.GetLabels()) + 1)
	b.Add(model.MetricNameLabel, name)
	for k, value := range s.GetLabels() {
		if len(k) > maxName || !model.LegacyValidation.IsValidLabelName(k) || k == model.MetricNameLabel || len(value) > maxLabelValue {
			return sample{}, fmt.Errorf("sample %s: label %q of %d bytes; wanted: a Prometheus label of at most %d", name, clip(k), len(value), maxLabelValue)
		}
		b.Add(k, value)
	}
	b.Sort()
	out := sample{labels: b.Labels(), value: v, word: word{moment: s.GetMoment(), at: now.Add(-age)}}
	if left > 0 {
		out.stands = left + age
	}
	return out, nil
}

// clip shortens a value for an error message.
func clip(s string) string { return excerpt.Of(s, 80) }
