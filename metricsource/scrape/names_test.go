package scrape

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNamesAreSharedWhileInUse(t *testing.T) {
	s := &sharedNames{by: map[string]*namesInUse{}}
	a, putA := s.take([]string{"vllm:one", "vllm:two"}, nil)
	b, putB := s.take([]string{"vllm:two", "vllm:one"}, nil)
	other, putOther := s.take([]string{"vllm:one"}, nil)
	pattern, putPattern := s.take([]string{"vllm:one"}, func(name string) bool { return strings.HasPrefix(name, "x") })
	require.Same(t, a, b)
	require.NotSame(t, a, other)
	require.NotSame(t, other, pattern, "a predicate is nobody else's")
	nul, putNul := s.take([]string{"vllm:one\x00vllm:two"}, nil)
	require.NotSame(t, a, nul)
	putNul()
	putA()
	putA() // once
	c, putC := s.take([]string{"vllm:one", "vllm:two"}, nil)
	require.Same(t, a, c, "b has them still")
	for _, put := range []func(){putB, putC, putOther, putPattern} {
		put()
	}
	require.Empty(t, s.by)
}
