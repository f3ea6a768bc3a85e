package exposition

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/inference-scaler/inference-scaler/metricsource/excerpt"
)

const (
	// maxSeries limits the text of one series, in bytes. It is far above the length of
	// real series, and far below 16 MiB, where labels.Labels panics.
	maxSeries = 16 << 10
	// maxInput limits the quoted input in an error, in bytes.
	maxInput = 64
)

// SyntaxError describes a malformed line or series.
type SyntaxError struct {
	Line   int    // 1-based; 0 if the input was only a series
	Reason string // a constant text
	Input  string // the text at the error, not escaped; at most 64 bytes
}

func (e *SyntaxError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s at %q", e.Reason, e.Input)
	}
	return fmt.Sprintf("line %d: %s at %q", e.Line, e.Reason, e.Input)
}

func clip(b []byte) string { return excerpt.Of(b, maxInput) }

// ParseLabels parses the text of a series, as Series returns it. The labels include
// __name__; they are unescaped and sorted. Labels with an empty value are omitted, because
// PromQL treats them as absent.
//
// Like expfmt, it returns a *SyntaxError for malformed text, for an empty, reserved or
// duplicate name, and for invalid UTF-8. It is slow: call it once per new series.
func ParseLabels(series []byte) (labels.Labels, error) {
	fail := func(reason string, at int) (labels.Labels, error) {
		return labels.EmptyLabels(), &SyntaxError{Reason: reason, Input: clip(series[min(at, len(series)):])}
	}
	if len(series) > maxSeries {
		return fail("series longer than 16 KiB", 0)
	}
	if bytes.IndexByte(series, '\n') >= 0 {
		return fail("newline in a series", 0)
	}
	var ls []labels.Label
	name, i, reason := leadingName(series)
	if reason != "" {
		return fail(reason, 0)
	}
	if name != "" {
		ls = append(ls, labels.Label{Name: model.MetricNameLabel, Value: name})
	}
	if i = skipBlanks(series, i); i < len(series) {
		if series[i] != '{' {
			return fail("expected '{' after a metric name", i)
		}
		b := block{b: series, i: i + 1}
		if ls, reason = blockLabels(&b, ls); reason != "" {
			return fail(reason, b.i)
		}
		if b.i != len(series) {
			return fail("text after the label block", b.i)
		}
	}
	slices.SortFunc(ls, func(a, b labels.Label) int { return strings.Compare(a.Name, b.Name) })
	named := false
	builder := labels.NewScratchBuilder(len(ls))
	for i, l := range ls {
		if i > 0 && l.Name == ls[i-1].Name {
			return fail("duplicate label name", 0)
		}
		if !utf8.ValidString(l.Name) || !utf8.ValidString(l.Value) {
			return fail("invalid UTF-8", 0)
		}
		named = named || l.Name == model.MetricNameLabel
		if l.Value != "" {
			builder.Add(l.Name, l.Value)
		}
	}
	if !named {
		return fail("no metric name", 0)
	}
	return builder.Labels(), nil
}

// leadingName returns the metric name before the braces, or "", and its end.
func leadingName(series []byte) (name string, end int, reason string) {
	if len(series) == 0 {
		return "", 0, "no metric name"
	}
	switch series[0] {
	case '{':
		return "", 0, ""
	case '"':
		q := quoteEnd(series, 1)
		if q < 0 {
			return "", 0, "unterminated name"
		}
		if q == 1 {
			return "", 0, "empty metric name"
		}
		return string(unescape(nil, series[1:q])), q + 1, ""
	}
	if end = metricNameEnd(series, 0); end == 0 {
		return "", 0, "invalid metric name"
	}
	return string(series[:end]), end, ""
}

// blockLabels appends the labels of the block to ls. ls contains the leading name, if the
// series has one.
func blockLabels(b *block, ls []labels.Label) ([]labels.Label, string) {
	named := len(ls) > 0
	for {
		it, done, reason := b.next()
		if done || reason != "" {
			return ls, reason
		}
		name := string(unescape(nil, it.name))
		switch {
		case it.value != nil && name == model.MetricNameLabel:
			return ls, "reserved label name __name__"
		case it.value != nil && name == "":
			return ls, "empty label name"
		case it.value != nil:
			ls = append(ls, labels.Label{Name: name, Value: string(unescape(nil, it.value))})
		case named:
			return ls, "second metric name"
		case name == "":
			return ls, "empty metric name"
		default:
			named = true
			ls = append(ls, labels.Label{Name: model.MetricNameLabel, Value: name})
		}
	}
}
