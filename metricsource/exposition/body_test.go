package exposition

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHasPrefix(t *testing.T) {
	for body, want := range map[string]bool{
		"":                                    false,
		"vllm:a 1":                            true,
		"a 1\nvllm:a{b=\"c\"} 1\n":            true,
		" \tvllm:a 1\r\n":                     true,
		"{\"vllm:a\"} 1\n":                    true,
		"{a=\"b\",\"vllm:a\"} 1\n":            true,
		"{\"sgl\\\"ang:a\"} 1\n":              true,
		"sgl_x:a 1\n":                         true,
		"# HELP vllm:a b\n# TYPE vllm:a c\n":  false,
		"a{b=\"vllm:a\"} 1\na vllm:a\n":       false,
		"avllm:a 1\nvll 1\n":                  false,
		"<html>\nvllm\n</html>":               false,
		"{\"vllm:a\"=\"b\"} 1\n{\"vllm:a 1\n": false,
	} {
		require.Equal(t, want, HasPrefix([]byte(body), "vllm:", `sgl"ang:`, "sgl_x:"), "%q", body)
	}
	require.False(t, HasPrefix([]byte("a 1\n")), "no prefix, no match")
	require.Zero(t, testing.AllocsPerRun(10, func() { HasPrefix([]byte("a 1\nb{c=\"d\"} 1\n"), "vllm:") }))
}

func TestComplete(t *testing.T) {
	for body, want := range map[string]bool{
		"":                     false,
		"a 1\n":                false,
		"# EOF":                true,
		"# EOF\n":              true,
		"a 1\n# EOF\n":         true,
		"a 1\r\n# EOF\r\n":     true,
		"a 1\n# EOF\n\n":       true,
		"a 1\n# EO":            false,
		"a 1 # EOF\n":          false,
		"a{b=\"# EOF":          false,
		"a 1\n# EOF \n":        false,
		"a 1\n# EOFF\n":        false,
		"a 1\n# EOF\nb 1\n":    false,
		"a 1\n# EOF\n# EOF":    true,
		"# HELP a b\\n# EOF\n": false,
	} {
		require.Equal(t, want, Complete([]byte(body)), "%q", body)
	}
}
