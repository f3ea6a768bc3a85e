package scaler

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/kedacore/keda/v2/pkg/scalers/externalscaler"

	"github.com/inference-scaler/inference-scaler/scaler/trigger"
)

const (
	// maxTriggers bounds what one scaler keeps alive, and maxPerObject what
	// calls for one ScaledObject can make it keep.
	maxTriggers  = 20_000
	maxPerObject = 32

	sweepInterval = 15 * time.Second
	// A trigger that no ScaledObject declares any more is kept for as long as an
	// operator may still call with metadata it has cached; without Kubernetes,
	// where nothing is declared, for longer than the slowest poll.
	keepUndeclared = 2 * time.Minute
	keepUnwatched  = 30 * time.Minute

	maxNameLength = 253 // of a Kubernetes object
)

var errTooMany = errors.New("too many triggers")

// lookup returns the live trigger of a call, opening it on the first one.
func (s *Scaler) lookup(ref *externalscaler.ScaledObjectRef) (*live, error) {
	o := object{ref.GetNamespace(), ref.GetName()}
	if o.namespace == "" || o.name == "" || len(o.namespace) > maxNameLength || len(o.name) > maxNameLength {
		return nil, fmt.Errorf("%w: a ScaledObject needs a namespace and a name of at most %d bytes", errMetadata, maxNameLength)
	}
	if l, ok := s.triggers.Load(key(o, ref.GetScalerMetadata())); ok {
		l := l.(*live)
		l.used.Store(time.Now().UnixNano())
		return l, nil
	}
	return s.open(o, ref.GetScalerMetadata(), false)
}

// open makes a trigger live, unless it is. It is evaluated once, so that there is
// an answer, and it stays open until it is swept.
func (s *Scaler) open(o object, metadata map[string]string, declared bool) (*live, error) {
	k := key(o, metadata)
	if l, ok := s.triggers.Load(k); ok {
		return l.(*live), nil
	}
	t, err := trigger.Parse(metadata)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMetadata, err)
	}
	if !declared {
		declared = s.isDeclared(o, metadata)
	}
	s.mu.Lock()
	if l, ok := s.byObject[o][k]; ok { // another call is opening it
		s.mu.Unlock()
		l.evaluate(context.Background())
		return l, nil
	}
	if s.count >= maxTriggers || !declared && len(s.byObject[o]) >= maxPerObject {
		s.mu.Unlock()
		return nil, fmt.Errorf("%w: at most %d for a ScaledObject, and %d in all", errTooMany, maxPerObject, maxTriggers)
	}
	l := newLive(s, o, k, maps.Clone(metadata), t)
	l.declared.Store(declared)
	if s.byObject[o] == nil {
		s.byObject[o] = map[string]*live{}
	}
	s.byObject[o][k] = l
	s.count++
	s.mu.Unlock()
	l.evaluate(context.Background())
	s.triggers.Store(k, l)
	s.opts.Logger.Info("trigger opened", "namespace", o.namespace, "scaledObject", o.name, "trigger", l.label, "declared", declared)
	return l, nil
}

func (s *Scaler) isDeclared(o object, metadata map[string]string) bool {
	if s.opts.Cluster == nil {
		return false
	}
	so, err := s.opts.Cluster.ScaledObject(o.namespace, o.name)
	if err != nil {
		return false
	}
	for _, t := range so.Triggers {
		if declares(t.Metadata, metadata) {
			return true
		}
	}
	return false
}

// sweep closes the triggers that nothing declares, holds a stream of, or has
// called for in a while.
func (s *Scaler) sweep(now time.Time) {
	keep := keepUndeclared
	if s.opts.Cluster == nil {
		keep = keepUnwatched
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.each(func(l *live) {
		if !l.declared.Load() && l.watchers() == 0 && now.Sub(time.Unix(0, l.used.Load())) > keep {
			s.close(l)
		}
	})
}

// close ends a live trigger; s.mu must be held.
func (s *Scaler) close(l *live) {
	s.triggers.Delete(l.key)
	delete(s.byObject[l.object], l.key)
	if len(s.byObject[l.object]) == 0 {
		delete(s.byObject, l.object)
	}
	s.count--
	l.close()
	s.opts.Logger.Info("trigger closed", "namespace", l.namespace, "scaledObject", l.name, "trigger", l.label)
}

// key is all that a trigger is told apart by: its ScaledObject and its metadata.
func key(o object, metadata map[string]string) string {
	var b strings.Builder
	b.Grow(512)
	b.WriteString(o.namespace)
	b.WriteByte('/')
	b.WriteString(o.name)
	for _, k := range slices.Sorted(maps.Keys(metadata)) {
		b.WriteByte(0)
		b.WriteString(k)
		b.WriteByte(0)
		b.WriteString(metadata[k])
	}
	return b.String()
}

// label tells the triggers of one ScaledObject apart in metrics and explanations.
func label(metricName, key string) string {
	h := fnv.New32a()
	h.Write([]byte(key))
	return fmt.Sprintf("%s-%06x", metricName, h.Sum32()&0xffffff)
}

// resolved reports whether the metadata say all there is: a …FromEnv key in a
// ScaledObject names a variable that only KEDA can read.
func resolved(metadata map[string]string) bool {
	for k := range metadata {
		if strings.HasSuffix(k, "FromEnv") {
			return false
		}
	}
	return true
}

// declares reports whether a call's metadata are those of a ScaledObject, whose
// …FromEnv keys KEDA has resolved, or dropped where the variable is not set.
func declares(declared, called map[string]string) bool {
	for k, v := range declared {
		got, ok := called[k]
		if !strings.HasSuffix(k, "FromEnv") && (!ok || got != v) {
			return false
		}
	}
	for k := range called {
		if _, ok := declared[k]; !ok {
			return false
		}
	}
	return true
}
