package scrape

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNamesAreSharedWhileInUse(t *testing.T) {
	s := &sharedNames{inUse: map[string]*namesInUse{}}
	a, releaseA := s.acquire([]string{"vllm:one", "vllm:two"}, nil)
	b, releaseB := s.acquire([]string{"vllm:two", "vllm:one"}, nil)
	other, releaseOther := s.acquire([]string{"vllm:one"}, nil)
	pattern, releasePattern := s.acquire([]string{"vllm:one"}, func(name string) bool { return strings.HasPrefix(name, "x") })
	require.Same(t, a, b)
	require.NotSame(t, a, other)
	require.NotSame(t, other, pattern, "names with a predicate are not shared")
	nul, releaseNul := s.acquire([]string{"vllm:one\x00vllm:two"}, nil)
	require.NotSame(t, a, nul)
	releaseNul()
	releaseA()
	releaseA() // the second call has no effect
	c, releaseC := s.acquire([]string{"vllm:one", "vllm:two"}, nil)
	require.Same(t, a, c, "b still uses them")
	for _, release := range []func(){releaseB, releaseC, releaseOther, releasePattern} {
		release()
	}
	require.Empty(t, s.inUse)
}
