package exposition

import "bytes"

// maxVerdicts bounds what a Scanner remembers of a predicate, so that a target
// that invents names cannot grow it.
const maxVerdicts = 4096

// Scanner walks the wanted samples of one body. The zero value is ready for
// Reset; reuse it, since in the steady state it does not allocate. It is not
// safe for concurrent use.
//
// A Scanner yields every wanted sample in the order of the body, a series that
// occurs twice as well: the last one counts, and that is the caller's to see to.
// Timestamps and exemplars are checked and dropped. "# EOF" is a comment like any
// other, as the text format has it; for OpenMetrics see Complete.
// Unwanted lines are never checked. Of a wanted line the label block is only
// delimited; ParseLabels, called once per new series, checks what is in it.
type Scanner struct {
	names *Names
	body  []byte
	pos   int // where the next line starts
	err   error

	line   int // where the current line starts
	series []byte
	value  float64

	scratch []byte // an unescaped name

	// verdicts is what the predicate of names said. last is the name settled last,
	// in body: the series of a name stand together.
	verdicts   map[string]bool
	last       []byte
	lastWanted bool
}

// Reset makes s walk body for names. Both stay in use until the next Reset, and
// body must not change before. Nil names want nothing.
func (s *Scanner) Reset(body []byte, names *Names) {
	if s.names != names {
		clear(s.verdicts)
	}
	s.names, s.body, s.pos, s.err = names, body, 0, nil
	s.line, s.series, s.value, s.last = 0, nil, 0, nil
}

// Next advances to the next wanted sample; false at the end or on an error.
func (s *Scanner) Next() bool {
	switch {
	case s.err != nil || s.names == nil:
		return false
	case s.names.stride > 0:
		return s.nextProbing()
	case s.names.match == nil && len(s.names.exact) == 0:
		return false
	}
	return s.nextWalking()
}

// Series is the raw text of the current series as it stands in the body, such
// as `vllm:num_requests_waiting{model_name="m"}`. It aliases the body. Use it as
// a cache key for ParseLabels, m[string(s.Series())], which does not allocate.
func (s *Scanner) Series() []byte { return s.series }

// Value is the value of the current sample.
func (s *Scanner) Value() float64 { return s.value }

// Line is the 1-based number of the current line. It counts from the start of
// the body at every call: for messages only.
func (s *Scanner) Line() int { return bytes.Count(s.body[:s.line], []byte{'\n'}) + 1 }

// Err is the *SyntaxError that stopped Next, or nil. The samples before it stand.
func (s *Scanner) Err() error { return s.err }

// nextProbing finds wanted names wherever they stand and asks only then what kind
// of line it is.
func (s *Scanner) nextProbing() bool {
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
		// A name in a comment, in a label value, in quotes or behind blanks. The
		// line is settled here, so that none is looked at twice.
		start := floor + bytes.LastIndexByte(body[floor:at], '\n') + 1
		if s.settle(start, s.takeLine(start)) {
			return s.err == nil
		}
		floor, pos = s.pos, s.pos
	}
	s.pos = len(body)
	return false
}

// nextWalking looks at the name of every line.
func (s *Scanner) nextWalking() bool {
	for s.pos < len(s.body) {
		start := s.pos
		line := s.takeLine(start)
		if k := len(s.last); k > 0 && bytes.HasPrefix(line, s.last) && endsName(line, k) {
			if s.lastWanted {
				return s.sample(start, line, 0, k)
			}
			continue
		}
		if s.settle(start, line) {
			return s.err == nil
		}
	}
	return false
}

// takeLine returns the line at start and moves behind it.
func (s *Scanner) takeLine(start int) []byte {
	rest := s.body[start:]
	end := bytes.IndexByte(rest, '\n')
	if end < 0 {
		end = len(rest)
	}
	s.pos = min(start+end+1, len(s.body))
	return rest[:end]
}

// settle handles any line, without assumptions. It reports whether Next is to
// return: at a sample or an error.
func (s *Scanner) settle(start int, line []byte) bool {
	h := readHead(line)
	if len(h.name) == 0 || !s.wants(h) {
		return false
	}
	s.sample(start, line, h.start, h.end)
	return true
}

// wants reports whether the name of h is wanted.
func (s *Scanner) wants(h lineHead) bool {
	name := h.name
	if h.quoted && bytes.IndexByte(name, '\\') >= 0 {
		s.scratch = unescape(s.scratch[:0], name)
		name = s.scratch
	}
	wanted := s.verdict(name)
	if !h.quoted {
		s.last, s.lastWanted = h.name, wanted
	}
	return wanted
}

func (s *Scanner) verdict(name []byte) bool {
	if s.names.match == nil {
		_, wanted := s.names.exact[string(name)]
		return wanted
	}
	wanted, known := s.verdicts[string(name)]
	if known {
		return wanted
	}
	key := string(name)
	if _, wanted = s.names.exact[key]; !wanted {
		wanted = s.names.match(key)
	}
	if s.verdicts == nil {
		s.verdicts = make(map[string]bool)
	} else if len(s.verdicts) >= maxVerdicts {
		clear(s.verdicts)
	}
	s.verdicts[key] = wanted
	return wanted
}

// sample reads the wanted line whose series starts at from and whose name ends
// at nameEnd. It reports whether that went well.
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
