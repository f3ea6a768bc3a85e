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
	// maxSeries bounds one series, in bytes: far above what is one, and far below the
	// string of 16 MiB that labels.Labels panics on.
	maxSeries = 16 << 10
	// maxInput is how much of a body an error repeats, in bytes.
	maxInput = 64
)

// SyntaxError says why a wanted line, or a series, is not well formed.
type SyntaxError struct {
	Line   int    // 1-based; 0 where only a series was given
	Reason string // short and fixed, fit to be compared
	Input  string // the text from there on, not escaped: at most 64 bytes
}

func (e *SyntaxError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s at %q", e.Reason, e.Input)
	}
	return fmt.Sprintf("line %d: %s at %q", e.Line, e.Reason, e.Input)
}

func clip(b []byte) string { return excerpt.Of(b, maxInput) }

// ParseLabels parses a raw series text, as Series returns it, into labels:
// __name__ among them, unescaped, sorted, without those of empty value, which
// PromQL takes for absent. It returns a *SyntaxError for what expfmt refuses:
// malformed text, an empty, reserved or repeated name, invalid UTF-8. It is the
// slow path, to be called once per new series.
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

// leadingName reads the metric name before the braces, "" where there is none,
// and returns where it ends.
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

// blockLabels appends what b holds to ls, which holds the leading name if there
// was one.
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
