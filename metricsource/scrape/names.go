package scrape

import (
	"fmt"
	"slices"
	"sync"

	"github.com/inference-scaler/inference-scaler/metricsource/exposition"
)

// sharedNames are what is compiled of the names that groups look for: of thousands of
// groups most look for those of the same few engines.
type sharedNames struct {
	mu sync.Mutex
	by map[string]*namesInUse
}

type namesInUse struct {
	*exposition.Names
	groups int
}

// take returns the names compiled, and what gives them up. What is told by a predicate
// is nobody else's.
func (s *sharedNames) take(exact []string, match func(string) bool) (names *exposition.Names, put func()) {
	if match != nil {
		return exposition.NewNames(exact, match), func() {}
	}
	key := fmt.Sprintf("%q", slices.Sorted(slices.Values(exact))) // a name may hold any byte
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.by[key]
	if n == nil {
		n = &namesInUse{Names: exposition.NewNames(exact, nil)}
		s.by[key] = n
	}
	n.groups++
	return n.Names, sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if n.groups--; n.groups == 0 {
			delete(s.by, key)
		}
	})
}
