package exposition

import "bytes"

// HasPrefix reports whether the metric name of any sample line in body begins
// with one of prefixes; comments do not count, quoted names do. It is for the
// body without a wanted series, to tell an idle engine from one that is not the
// engine meant. Values are not looked at.
func HasPrefix(body []byte, prefixes ...string) bool {
	for len(body) > 0 {
		line, rest, _ := bytes.Cut(body, []byte{'\n'})
		body = rest
		h := readHead(line)
		if len(h.name) == 0 {
			continue
		}
		if h.quoted {
			h.name = unescape(nil, h.name)
		}
		for _, p := range prefixes {
			if len(h.name) >= len(p) && string(h.name[:len(p)]) == p {
				return true
			}
		}
	}
	return false
}

// Complete reports whether body ends with a "# EOF" line. An OpenMetrics body
// that does not was cut off; the text format has no such mark. Line ends behind
// it do no harm.
func Complete(body []byte) bool {
	body = bytes.TrimRight(body, "\r\n")
	return string(body[bytes.LastIndexByte(body, '\n')+1:]) == "# EOF"
}
