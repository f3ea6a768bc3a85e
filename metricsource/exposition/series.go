package exposition

// lineHead says where the metric name of a line stands. Blanks before it do not
// belong to the series.
type lineHead struct {
	start int    // of the series
	end   int    // behind the name; for a name in braces equal to start
	name  []byte // raw, without quotes; empty: the line is no sample
	// quoted names may hold escapes.
	quoted bool
}

// readHead finds the metric name of any line, well formed or not.
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
		// Only expfmt takes a quoted name outside braces.
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

// block reads the items of a label block; i stands behind the opening brace.
type block struct {
	b []byte
	i int
}

// item is a label, or the metric name where value is nil. Both are raw.
type item struct {
	name, value []byte
	quoted      bool // the name
}

// next returns the next item, or done with i behind the closing brace, or the
// reason why there is neither.
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
	case b.i < len(b.b) && b.b[b.i] == '}': // for the next call
	case it.value == nil:
		return item{}, false, "expected '=' after a label name"
	default:
		return item{}, false, "expected ',' or '}' after a label value"
	}
	return it, false, ""
}

// quotedText returns the raw text of the string whose opening quote stands at i
// and moves behind it; nil where it does not end, never nil where it is empty.
func (b *block) quotedText() []byte {
	end := quoteEnd(b.b, b.i+1)
	if end < 0 {
		return nil
	}
	text := b.b[b.i+1 : end]
	b.i = end + 1
	return text
}
