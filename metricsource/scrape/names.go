package scrape

import (
	"fmt"
	"slices"
	"sync"

	"github.com/inference-scaler/inference-scaler/metricsource/exposition"
)

// sharedNames shares compiled names between groups. Most of thousands of groups select the
// metrics of the same few engines.
type sharedNames struct {
	mu    sync.Mutex
	inUse map[string]*namesInUse
}

type namesInUse struct {
	*exposition.Names
	groups int
}

// acquire returns the compiled names, and a function that releases them. Names with a
// predicate are not shared, because predicates cannot be compared.
func (s *sharedNames) acquire(exact []string, match func(string) bool) (names *exposition.Names, release func()) {
	if match != nil {
		return exposition.NewNames(exact, match), func() {}
	}
	key := fmt.Sprintf("%q", slices.Sorted(slices.Values(exact))) // quoted: a name can contain any byte
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.inUse[key]
	if n == nil {
		n = &namesInUse{Names: exposition.NewNames(exact, nil)}
		s.inUse[key] = n
	}
	n.groups++
	return n.Names, sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if n.groups--; n.groups == 0 {
			delete(s.inUse, key)
		}
	})
}
