package inference

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// exposition is a captured body, with places for what is simulated.
type exposition struct {
	engine engine
	lines  []line
	bounds [measures][]float64 // of the histograms' buckets, without +Inf
	pod    string              // the pod that the captured samples name, if they do
}

// line is one line of the body: its text, and behind it, if it has one, a value.
type line struct {
	name  string // of the sample; empty for a comment
	text  string
	value func(State) float64
}

var (
	bucketBound = regexp.MustCompile(`[{,]le="([^"]+)"`)
	podLabel    = regexp.MustCompile(`[{,]pod="([^"]+)"`)
)

func newExposition(text string, e engine) (*exposition, error) {
	x := &exposition{engine: e}
	found := map[string]bool{}
	for _, raw := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if strings.HasPrefix(raw, "#") || raw == "" {
			x.lines = append(x.lines, line{text: raw + "\n"})
			continue
		}
		series := raw[:strings.LastIndexByte(raw, ' ')]
		name, _, _ := strings.Cut(series, "{")
		if m := podLabel.FindStringSubmatch(series); m != nil {
			x.pod = m[1]
		}
		l := line{name: name, text: raw + "\n"}
		if value, metric := x.value(name, series); value != nil {
			l.text, l.value = series+" ", value
			found[metric] = true
		}
		x.lines = append(x.lines, l)
	}
	for metric := range e.gauges {
		if !found[metric] {
			return nil, fmt.Errorf("no series %s", metric)
		}
	}
	for metric := range e.histograms {
		if !found[metric] {
			return nil, fmt.Errorf("no histogram %s", metric)
		}
	}
	return x, nil
}

// value is what a sample of a simulated metric shows; nil for all others.
func (x *exposition) value(name, series string) (value func(State) float64, metric string) {
	if gauge, ok := x.engine.gauges[name]; ok {
		return gauge, name
	}
	for metric, m := range x.engine.histograms {
		switch name {
		case metric + "_sum":
			return func(s State) float64 { return s.measured[m].sum }, metric
		case metric + "_count":
			return func(s State) float64 { return float64(s.measured[m].count) }, metric
		case metric + "_bucket":
			match := bucketBound.FindStringSubmatch(series)
			if match == nil {
				return nil, ""
			}
			if match[1] == "+Inf" {
				return func(s State) float64 { return float64(s.measured[m].count) }, metric
			}
			bound, err := strconv.ParseFloat(match[1], 64)
			if err != nil {
				return nil, ""
			}
			if !slices.Contains(x.bounds[m], bound) {
				x.bounds[m] = append(x.bounds[m], bound)
			}
			return func(s State) float64 { return float64(s.measured[m].upTo(bound)) }, metric
		}
	}
	return nil, ""
}

// render writes the body of a pod in that state: all of it, or the samples of
// these names alone. renames are pairs of a text in the body and its
// replacement.
func (x *exposition) render(pod string, s State, names []string, renames []string) []byte {
	if len(names) > 0 && x.engine.filter == empties {
		return nil
	}
	only := len(names) > 0 && x.engine.filter == applies
	var b []byte
	for _, l := range x.lines {
		if only && !slices.Contains(names, l.name) {
			continue
		}
		b = append(b, l.text...)
		if l.value != nil {
			b = strconv.AppendFloat(b, l.value(s), 'f', -1, 64)
			b = append(b, '\n')
		}
	}
	if x.pod != "" {
		renames = append(renames[:len(renames):len(renames)], x.pod, pod)
	}
	if len(renames) == 0 {
		return b
	}
	return []byte(strings.NewReplacer(renames...).Replace(string(b)))
}

// histogram counts by bucket.
type histogram struct {
	bounds []float64
	counts []uint64 // of each bucket alone
	count  uint64
	sum    float64
}

func (h *histogram) observe(v float64) {
	if h.counts == nil {
		h.counts = make([]uint64, len(h.bounds))
	}
	h.count++
	h.sum += v
	for i, bound := range h.bounds {
		if v <= bound {
			h.counts[i]++
			return
		}
	}
}

// upTo is how many were at most bound.
func (h *histogram) upTo(bound float64) uint64 {
	n := uint64(0)
	for i, b := range h.bounds {
		if b <= bound && i < len(h.counts) {
			n += h.counts[i]
		}
	}
	return n
}
