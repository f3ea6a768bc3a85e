package exposition

import "bytes"

// HasPrefix reports whether the metric name of any sample line in body starts with one of
// prefixes. It ignores comments and values, and handles quoted names. If a body contains no
// selected series, it distinguishes an idle engine from another server.
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

// Complete reports whether body ends with a "# EOF" line, optionally followed by empty
// lines. An OpenMetrics body without it is truncated. The text format has no such marker.
func Complete(body []byte) bool {
	body = bytes.TrimRight(body, "\r\n")
	return string(body[bytes.LastIndexByte(body, '\n')+1:]) == "# EOF"
}
