package exposition

import (
	"bytes"
	"errors"
	"math"
	"strconv"
)

// The grammar of one line. All offsets are relative to the line, and a line contains no
// newline.

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

func skipBlanks(b []byte, i int) int {
	for i < len(b) && isBlank(b[i]) {
		i++
	}
	return i
}

// tokenEnd returns the end of the run of non-blanks at i.
func tokenEnd(b []byte, i int) int {
	for i < len(b) && !isBlank(b[i]) {
		i++
	}
	return i
}

// endsName reports whether a metric name can end at i. The end of the line counts: a
// selected name without a value is an error and must not be ignored.
func endsName(b []byte, i int) bool {
	return i == len(b) || b[i] == '{' || isBlank(b[i]) || b[i] == '\r' && i+1 == len(b)
}

// isNameByte reports whether c can be part of an unquoted metric name.
func isNameByte(c byte) bool { return c == ':' || isLabelByte(c, false) }

// mayPrecedeName reports whether the name of a sample line can follow c.
func mayPrecedeName(c byte) bool { return isBlank(c) || c == '"' || c == '{' || c == ',' }

func isLabelByte(c byte, first bool) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || !first && c >= '0' && c <= '9'
}

// labelNameEnd returns the end of the unquoted label name at i, or i if there is none.
func labelNameEnd(b []byte, i int) int {
	for from := i; i < len(b) && isLabelByte(b[i], i == from); {
		i++
	}
	return i
}

// metricNameEnd returns the end of the unquoted metric name at i, or i if there is none.
func metricNameEnd(b []byte, i int) int {
	for from := i; i < len(b) && (b[i] == ':' || isLabelByte(b[i], i == from)); {
		i++
	}
	return i
}

// quoteEnd returns the offset of the closing quote, or -1. from is the offset after the
// opening quote.
func quoteEnd(b []byte, from int) int {
	for i := from; ; {
		q := bytes.IndexByte(b[i:], '"')
		if q < 0 {
			return -1
		}
		q += i
		run := q
		for run > i && b[run-1] == '\\' {
			run--
		}
		if (q-run)%2 == 0 {
			return q
		}
		i = q + 1
	}
}

// braceEnd returns the offset after the closing brace, or -1. i is the offset after the
// opening brace. ParseLabels checks the text between the braces.
func braceEnd(b []byte, i int) int {
	for ; i < len(b); i++ {
		switch b[i] {
		case '}':
			return i + 1
		case '"':
			if i = quoteEnd(b, i+1); i < 0 {
				return -1
			}
		}
	}
	return -1
}

// unescape appends raw to dst and replaces \\, \" and \n. Like Prometheus, it keeps any
// other escape unchanged; expfmt rejects those.
func unescape(dst, raw []byte) []byte {
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c == '\\' && i+1 < len(raw) {
			switch raw[i+1] {
			case '\\', '"':
				i++
				c = raw[i]
			case 'n':
				i++
				c = '\n'
			}
		}
		dst = append(dst, c)
	}
	return dst
}

var errNumber = errors.New("not a number")

// number parses a number and accepts the same syntax as expfmt and Prometheus. It
// allocates only for more than 32 bytes, which no client library writes.
func number(b []byte) (float64, error) {
	for _, c := range b {
		if c == '_' || c == 'p' || c == 'P' {
			return 0, errNumber // valid in Go, but not in the text formats
		}
	}
	return strconv.ParseFloat(string(b), 64)
}

// checkTail checks the text after a value: an optional timestamp and an optional
// OpenMetrics exemplar. It returns the offset and the reason of an error, or an empty
// reason.
func checkTail(b []byte, i int) (int, string) {
	i = skipBlanks(b, i)
	if i < len(b) && b[i] != '#' {
		end := tokenEnd(b, i)
		if !isTimestamp(b[i:end]) {
			return i, "expected a timestamp or the end of the line"
		}
		i = skipBlanks(b, end)
	}
	if i == len(b) {
		return i, ""
	}
	if b[i] != '#' {
		return i, "expected the end of the line"
	}
	open := skipBlanks(b, i+1)
	if open == len(b) || b[open] != '{' {
		return i, "expected an exemplar or the end of the line"
	}
	end := braceEnd(b, open+1)
	if end < 0 {
		return i, "unterminated exemplar"
	}
	i = skipBlanks(b, end)
	end = tokenEnd(b, i)
	if _, err := number(b[i:end]); err != nil {
		return i, "expected the value of an exemplar"
	}
	i = skipBlanks(b, end)
	end = tokenEnd(b, i)
	if i < len(b) && (end != len(b) || !isTimestamp(b[i:end])) {
		return i, "expected the timestamp of an exemplar or the end of the line"
	}
	return i, ""
}

func isTimestamp(b []byte) bool {
	ts, err := number(b)
	return err == nil && !math.IsNaN(ts) && !math.IsInf(ts, 0)
}
