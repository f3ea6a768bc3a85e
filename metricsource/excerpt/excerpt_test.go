package excerpt

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestOf(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"", ""},
		{"0123456789", "0123456789"},
		{"0123456789a", "0123456…"},
		{"ééééé", "ééééé"},
		{"éééééé", "ééé…"},
		{"aééééé", "aééé…"},
		{"aaa🙂🙂🙂", "aaa🙂…"},
		{"aaaaa🙂🙂🙂", "aaaaa…"},
		{"\xffaé\xffbcdéfghi", "\xffaé\xffbc…"},
		{strings.Repeat("\x80", 11), strings.Repeat("\x80", 7) + "…"},
	} {
		require.Equal(t, tc.want, Of(tc.text, 10), "%q", tc.text)
		require.Equal(t, tc.want, Of([]byte(tc.text), 10), "%q", tc.text)
	}
}

func TestOfAnyText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text, limit := rapid.String().Draw(t, "text"), rapid.IntRange(len(mark), 100).Draw(t, "limit")
		got := Of(text, limit)
		require.True(t, utf8.ValidString(got), "%q", got)
		require.LessOrEqual(t, len(got), limit)
		beginning, shortened := strings.CutSuffix(got, mark)
		if got == text {
			return
		}
		require.True(t, shortened)
		require.True(t, strings.HasPrefix(text, beginning))
		require.Greater(t, len(got)+utf8.UTFMax, limit, "no shorter than needed")
	})
}
