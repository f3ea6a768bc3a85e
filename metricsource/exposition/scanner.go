package exposition

import "bytes"

// maxMatchCache limits the cached results of a predicate, because a target can export an
// unlimited number of new names.
const maxMatchCache = 4096

// Scanner iterates over the selected samples of one body. The zero value is ready for
// Reset. Reuse a Scanner: after the first bodies it does not allocate. It is not safe for
// concurrent use.
//
// A Scanner returns all selected samples in the order of the body. It returns duplicates
// too; the caller must apply the last one. It checks timestamps and exemplars, but does
// not return them. It treats "# EOF" as a comment, as in the text format; see Complete.
//
// Lines of other metrics are not checked. Of a selected line, only the end of the label
// block is found. ParseLabels checks the labels of each new series.
type Scanner struct {
	names *Names
	body  []byte
	pos   int // start of the next line
	err   error

	line   int // start of the current line
	series []byte
	value  float64

	scratch []byte // an unescaped name

	// matchCache contains results of the predicate. last is the last examined name, in
	// body: the series of a metric are adjacent.
	matchCache   map[string]bool
	last         []byte
	lastSelected bool
}

// Reset starts a scan of body for names. body must not change before the next Reset. Nil
// names select nothing.
func (s *Scanner) Reset(body []byte, names *Names) {
	if s.names != names {
		clear(s.matchCache)
	}
	s.names, s.body, s.pos, s.err = names, body, 0, nil
	s.line, s.series, s.value, s.last = 0, nil, 0, nil
}

// Next advances to the next selected sample. It returns false at the end or on an error.
func (s *Scanner) Next() bool {
	switch {
	case s.err != nil || s.names == nil:
		return false
	case s.names.stride > 0:
		return s.nextByProbe()
	case s.names.match == nil && len(s.names.exact) == 0:
		return false
	}
	return s.nextByLine()
}

// Series returns the raw text of the current series, such as
// `vllm:num_requests_waiting{model_name="m"}`. It aliases the body. Use it as the key of a
// cache for ParseLabels: a look-up with m[string(s.Series())] does not allocate.
func (s *Scanner) Series() []byte { return s.series }

// Value returns the value of the current sample.
func (s *Scanner) Value() float64 { return s.value }

// Line returns the 1-based number of the current line. Each call counts from the start of
// the body, so use it only for messages.
func (s *Scanner) Line() int { return bytes.Count(s.body[:s.line], []byte{'\n'}) + 1 }

// Err returns the *SyntaxError that stopped Next, or nil. The samples before it are valid.
func (s *Scanner) Err() error { return s.err }

// nextByProbe finds selected names anywhere in the body, and then examines their lines.
func (s *Scanner) nextByProbe() bool {
	n, body, floor := s.names, s.body, s.pos
	for pos := n.probe(body, floor); pos >= 0; pos = n.probe(body, pos) {
		at, length := n.find(body, floor, pos)
		switch {
		case length == 0:
			pos += n.stride
			continue
		case at == floor || body[at-1] == '\n':
			if line := s.takeLine(at); endsName(line, length) {
				return s.sample(at, line, 0, length)
			}
			floor, pos = s.pos, s.pos
			continue
		case !mayPrecedeName(body[at-1]):
			pos += n.stride
			continue
		}
		// The name is in a comment, in a label value, in quotes or after blanks. The whole
		// line is examined here, so that no line is examined twice.
		start := floor + bytes.LastIndexByte(body[floor:at], '\n') + 1
		if s.examine(start, s.takeLine(start)) {
			return s.err == nil
		}
		floor, pos = s.pos, s.pos
	}
	s.pos = len(body)
	return false
}

// nextByLine examines the name of every line.
func (s *Scanner) nextByLine() bool {
	for s.pos < len(s.body) {
		start := s.pos
		line := s.takeLine(start)
		if k := len(s.last); k > 0 && bytes.HasPrefix(line, s.last) && endsName(line, k) {
			if s.lastSelected {
				return s.sample(start, line, 0, k)
			}
			continue
		}
		if s.examine(start, line) {
			return s.err == nil
		}
	}
	return false
}

// takeLine returns the line at start and advances past it.
func (s *Scanner) takeLine(start int) []byte {
	rest := s.body[start:]
	end := bytes.IndexByte(rest, '\n')
	if end < 0 {
		end = len(rest)
	}
	s.pos = min(start+end+1, len(s.body))
	return rest[:end]
}

// examine handles any kind of line. It returns true if Next must return, at a sample or an
// error.
func (s *Scanner) examine(start int, line []byte) bool {
	h := readHead(line)
	if len(h.name) == 0 || !s.selects(h) {
		return false
	}
	s.sample(start, line, h.start, h.end)
	return true
}

// selects reports whether the name of h is selected.
func (s *Scanner) selects(h lineHead) bool {
	name := h.name
	if h.quoted && bytes.IndexByte(name, '\\') >= 0 {
		s.scratch = unescape(s.scratch[:0], name)
		name = s.scratch
	}
	selected := s.match(name)
	if !h.quoted {
		s.last, s.lastSelected = h.name, selected
	}
	return selected
}

func (s *Scanner) match(name []byte) bool {
	if s.names.match == nil {
		_, selected := s.names.exact[string(name)]
		return selected
	}
	selected, cached := s.matchCache[string(name)]
	if cached {
		return selected
	}
	key := string(name)
	if _, selected = s.names.exact[key]; !selected {
		selected = s.names.match(key)
	}
	if s.matchCache == nil {
		s.matchCache = make(map[string]bool)
	} else if len(s.matchCache) >= maxMatchCache {
		clear(s.matchCache)
	}
	s.matchCache[key] = selected
	return selected
}

// sample reads a selected line. The series starts at from, and its name ends at nameEnd.
// It returns false on an error.
func (s *Scanner) sample(start int, line []byte, from, nameEnd int) bool {
	s.line = start
	if k := len(line) - 1; line[k] == '\r' {
		line = line[:k]
	}
	end := nameEnd
	if i := skipBlanks(line, nameEnd); i < len(line) && line[i] == '{' {
		if end = braceEnd(line, i+1); end < 0 {
			return s.fail("unterminated label block", line[from:])
		}
	}
	i := skipBlanks(line, end)
	stop := tokenEnd(line, i)
	v, err := number(line[i:stop])
	if err != nil {
		return s.fail("expected a number after the series", line[i:])
	}
	if stop != len(line) {
		if at, reason := checkTail(line, stop); reason != "" {
			return s.fail(reason, line[at:])
		}
	}
	s.series, s.value = line[from:end], v
	return true
}

func (s *Scanner) fail(reason string, input []byte) bool {
	s.err = &SyntaxError{Line: s.Line(), Reason: reason, Input: clip(input)}
	s.series, s.value = nil, 0
	return false
}
