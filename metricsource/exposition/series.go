package exposition

// lineHead is the position of the metric name in a line. Leading blanks are not part of
// the series.
type lineHead struct {
	start  int    // of the series
	end    int    // after the name; equal to start if the name is in braces
	name   []byte // raw, without quotes; empty if the line is not a sample
	quoted bool   // the name can contain escapes
}

// readHead finds the metric name of any line, even a malformed one.
func readHead(line []byte) lineHead {
	i := skipBlanks(line, 0)
	if i == len(line) {
		return lineHead{}
	}
	switch line[i] {
	case '#':
		return lineHead{}
	case '{':
		h := lineHead{start: i, end: i}
		for b := (block{b: line, i: i + 1}); ; {
			it, done, reason := b.next()
			if done || reason != "" {
				return lineHead{}
			}
			if it.value == nil {
				h.name, h.quoted = it.name, it.quoted
				return h
			}
		}
	case '"':
		// expfmt accepts a quoted name outside braces; OpenMetrics does not.
		end := quoteEnd(line, i+1)
		if end < 0 {
			return lineHead{}
		}
		return lineHead{start: i, end: end + 1, name: line[i+1 : end], quoted: true}
	}
	end := metricNameEnd(line, i)
	if end == i || !endsName(line, end) {
		return lineHead{}
	}
	return lineHead{start: i, end: end, name: line[i:end]}
}

// block reads the items of a label block. i starts after the opening brace.
type block struct {
	b []byte
	i int
}

// item is a label, or the metric name if value is nil. Both texts are raw.
type item struct {
	name, value []byte
	quoted      bool // the name is quoted
}

// next returns the next item. At the end it returns done, with i after the closing brace.
// On an error it returns the reason.
func (b *block) next() (it item, done bool, reason string) {
	b.i = skipBlanks(b.b, b.i)
	if b.i == len(b.b) {
		return item{}, false, "unterminated label block"
	}
	switch b.b[b.i] {
	case '}':
		b.i++
		return item{}, true, ""
	case '"':
		if it.name = b.quotedText(); it.name == nil {
			return item{}, false, "unterminated name"
		}
		it.quoted = true
	default:
		end := labelNameEnd(b.b, b.i)
		if end == b.i {
			return item{}, false, "expected a label name"
		}
		it.name = b.b[b.i:end]
		b.i = end
	}
	b.i = skipBlanks(b.b, b.i)
	if b.i < len(b.b) && b.b[b.i] == '=' {
		b.i = skipBlanks(b.b, b.i+1)
		if b.i == len(b.b) || b.b[b.i] != '"' {
			return item{}, false, "expected a quoted label value"
		}
		if it.value = b.quotedText(); it.value == nil {
			return item{}, false, "unterminated label value"
		}
		b.i = skipBlanks(b.b, b.i)
	}
	switch {
	case b.i < len(b.b) && b.b[b.i] == ',':
		b.i++
	case b.i < len(b.b) && b.b[b.i] == '}': // the next call returns done
	case it.value == nil:
		return item{}, false, "expected '=' after a label name"
	default:
		return item{}, false, "expected ',' or '}' after a label value"
	}
	return it, false, ""
}

// quotedText returns the raw text of the quoted string at i and advances past it. It
// returns nil for an unterminated string, and a non-nil slice for an empty one.
func (b *block) quotedText() []byte {
	end := quoteEnd(b.b, b.i+1)
	if end < 0 {
		return nil
	}
	text := b.b[b.i+1 : end]
	b.i = end + 1
	return text
}
