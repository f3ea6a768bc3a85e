// Package excerpt shortens quoted text in messages: user input and server responses.
// Long quotes would flood logs, events and responses.
package excerpt

import "unicode/utf8"

// mark is appended to shortened text.
const mark = "…"

// Of returns s, or a prefix of s followed by "…", of at most limit bytes in total. It
// cuts between characters, because protobuf and Kubernetes reject text that ends within
// one. Invalid UTF-8 in s remains unchanged.
func Of[T ~string | ~[]byte](s T, limit int) string {
	if len(s) <= limit {
		return string(s)
	}
	end := max(0, limit-len(mark))
	for i := range min(utf8.UTFMax, end+1) {
		if utf8.RuneStart(s[end-i]) {
			end -= i
			break
		}
	}
	return string(s[:end]) + mark
}
