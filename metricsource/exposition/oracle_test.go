package exposition

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/stretchr/testify/require"
)

// readings maps each series to its last value as text. As text, NaN equals NaN, and 0
// differs from -0.
type readings map[string]string

func (r readings) set(l labels.Labels, v float64) {
	r[l.String()] = strconv.FormatFloat(v, 'g', -1, 64)
}

// scanned returns the samples that this package finds in body. It must not fail.
func scanned(t *testing.T, body []byte, names *Names, canon func(labels.Labels) labels.Labels) readings {
	got := readings{}
	var s Scanner
	for s.Reset(body, names); s.Next(); {
		l, err := ParseLabels(s.Series())
		require.NoError(t, err)
		got.set(canon(l), s.Value())
	}
	require.NoError(t, s.Err())
	return got
}

// parseNames parses a fuzzed set of names.
func parseNames(csv string) map[string]bool {
	names := map[string]bool{}
	for name := range strings.SplitSeq(csv, ",") {
		names[name] = name != "" && len(names) < 16
	}
	return names
}

// eachVariant calls do with each way to find names.
func eachVariant(names map[string]bool, do func(*Names)) {
	var list []string
	for name, ok := range names {
		if ok {
			list = append(list, name)
		}
	}
	do(NewNames(list, nil))
	do(NewNames(nil, func(name string) bool { return names[name] }))
}

// expfmtReadings returns the samples that expfmt finds in body. It parses each line alone,
// as an untyped sample. With TYPE lines, expfmt merges the parts of histograms and
// summaries, and truncates counts. ok is false if expfmt rejects the body, or if the
// difference is intended.
func expfmtReadings(body []byte, names map[string]bool) (want readings, ok bool) {
	whole := expfmt.NewTextParser(model.UTF8Validation)
	if _, err := whole.TextToMetricFamilies(bytes.NewReader(body)); err != nil {
		return nil, false
	}
	want = readings{}
	for line := range bytes.Lines(body) {
		if t := bytes.TrimLeft(line, " \t"); len(t) == 0 || t[0] == '#' || t[0] == '\n' {
			continue
		}
		if looseName(line) {
			return nil, false
		}
		single := expfmt.NewTextParser(model.UTF8Validation) // a used parser keeps its last metric
		families, err := single.TextToMetricFamilies(bytes.NewReader(line))
		if err != nil {
			// Braces without a metric name: after another sample, expfmt reads them as more
			// labels of that sample. This package ignores the line.
			return nil, false
		}
		for name, family := range families {
			if !names[name] {
				continue
			}
			m := family.GetMetric()[0]
			b := labels.NewScratchBuilder(0)
			b.Add(model.MetricNameLabel, name)
			for _, pair := range m.GetLabel() {
				if pair.GetValue() != "" {
					b.Add(pair.GetName(), pair.GetValue())
				}
			}
			b.Sort()
			want.set(b.Labels(), m.GetUntyped().GetValue())
		}
	}
	return want, true
}

// looseName reports whether expfmt accepts a sample line that this package ignores on
// purpose: a name and a value without a separator (foo-1), or a name with a quoted part
// (fo"o"). No format allows either.
func looseName(line []byte) bool {
	i := skipBlanks(line, 0)
	if end := metricNameEnd(line, i); end > i && !strings.ContainsRune(" \t{", rune(line[end])) {
		return true
	}
	for inside := false; i < len(line); i++ {
		switch {
		case line[i] == '\\' && inside:
			i++
		case line[i] == '"':
			if !inside && i > 0 && isNameByte(line[i-1]) {
				return true
			}
			inside = !inside
		}
	}
	return false
}

// openMetricsReadings returns the samples that Prometheus finds in an OpenMetrics body. ok
// is false if Prometheus rejects the body, or if the difference is intended.
func openMetricsReadings(body []byte, names map[string]bool) (want readings, ok bool) {
	if bytes.IndexByte(body, 0) >= 0 {
		return nil, false // the lexer of Prometheus uses NUL as its end marker, and skips some
	}
	p := textparse.NewOpenMetricsParser(body, labels.NewSymbolTable())
	want = readings{}
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return want, true
		}
		if err != nil {
			return nil, false
		}
		var text []byte
		switch entry {
		case textparse.EntryHelp:
			text, _ = p.Help()
		case textparse.EntryType:
			text, _ = p.Type()
		case textparse.EntryUnit:
			text, _ = p.Unit()
		case textparse.EntrySeries:
			var v float64
			var l labels.Labels
			text, _, v = p.Series()
			p.Labels(&l)
			switch name := metricName(l); {
			case !names[name]:
			case rejectedLabels(l):
				return nil, false
			default:
				want.set(canonical(l), v)
			}
		}
		if bytes.IndexByte(text, '\n') >= 0 {
			// A raw newline in a quoted name. The specification requires an escape, and this
			// package ends the line there.
			return nil, false
		}
	}
}

// metricName iterates over all labels: Get stops early if a label without a name has a long
// value.
func metricName(l labels.Labels) (name string) {
	l.Range(func(l labels.Label) {
		if l.Name == model.MetricNameLabel {
			name = l.Value
		}
	})
	return name
}

// rejectedLabels reports whether ParseLabels and expfmt reject the labels. Prometheus
// rejects them in its storage instead.
func rejectedLabels(l labels.Labels) bool {
	rejected := false
	l.Range(func(l labels.Label) {
		rejected = rejected || l.Name == "" || !utf8.ValidString(l.Name) || !utf8.ValidString(l.Value)
	})
	_, duplicate := l.HasDuplicateLabelNames()
	return rejected || duplicate
}

// canonical removes empty labels, and formats le and quantile as numbers. Prometheus does
// so for some types.
func canonical(l labels.Labels) labels.Labels {
	b := labels.NewScratchBuilder(l.Len())
	l.Range(func(l labels.Label) {
		if v, err := strconv.ParseFloat(l.Value, 64); err == nil && (l.Name == "le" || l.Name == "quantile") {
			l.Value = labels.FormatOpenMetricsFloat(v)
		}
		if l.Value != "" {
			b.Add(l.Name, l.Value)
		}
	})
	return b.Labels()
}
