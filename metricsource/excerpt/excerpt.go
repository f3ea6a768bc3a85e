// Package excerpt shortens text that messages repeat: input of users, responses of
// servers. What is longer than a reader needs would fill logs, events and responses.
package excerpt

import "unicode/utf8"

// mark follows text that was shortened.
const mark = "…"

// Of returns s, or a beginning of it that ends with "…": at most limit bytes in all. It
// cuts between characters, because protobuf and Kubernetes refuse text that ends within
// one. Invalid UTF-8 in s remains as it is.
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
