package scaler

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/fnv"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	"github.com/kedacore/keda/v2/pkg/scalers/externalscaler"

	"github.com/inference-scaler/inference-scaler/scaler/trigger"
)

const (
	// maxTriggers bounds what one scaler keeps alive, and maxPerObject what
	// calls for one ScaledObject can make it keep.
	maxTriggers  = 20_000
	maxPerObject = 32
	// maxUndeclared bounds, with Kubernetes, what calls can open that no
	// ScaledObject declares: they must not crowd out those that are.
	maxUndeclared = 1000

	sweepInterval = 15 * time.Second
	// A trigger that no ScaledObject declares any more is kept for as long as an
	// operator may still call with metadata it has cached; where that cannot be told,
	// and without Kubernetes, where nothing is declared, for longer than the slowest poll.
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
	if l := s.find(o, ref.GetScalerMetadata()); l != nil {
		l.used.Store(time.Now().UnixNano())
		return l, nil
	}
	return s.open(o, ref.GetScalerMetadata(), false)
}

// open makes a trigger live, unless it is. There is an answer at once, without a
// query: nothing has been read yet. It stays open until it is swept.
func (s *Scaler) open(o object, metadata map[string]string, declared bool) (*live, error) {
	if l := s.find(o, metadata); l != nil {
		return l, nil
	}
	k := key(o, metadata)
	declared = declared || s.isDeclared(o, metadata)
	// Before the metadata are looked at: to refuse a flood must cost next to nothing.
	if err := s.hasRoom(o, declared); err != nil {
		return nil, err
	}
	t, err := trigger.Parse(metadata)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMetadata, err)
	}
	if err := s.answerable(t); err != nil {
		return nil, fmt.Errorf("%w: %w", errMetadata, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if l, ok := s.byObject[o][k]; ok { // opened by another call meanwhile
		return l, nil
	}
	if err := s.room(o, declared); err != nil {
		return nil, err
	}
	l := newLive(s, o, k, maps.Clone(metadata), t)
	l.label = label(t.MetricName, k, s.byObject[o])
	s.undeclared++
	s.markDeclared(l, declared)
	if s.byObject[o] == nil {
		s.byObject[o] = map[string]*live{}
	}
	s.byObject[o][k] = l
	s.count++
	s.peers.Store(o, slices.Collect(maps.Values(s.byObject[o])))
	if t.Follow != nil {
		leader := object{o.namespace, t.Follow.Name}
		if s.following[leader] == nil {
			s.following[leader] = map[*live]struct{}{}
		}
		s.following[leader][l] = struct{}{}
	}
	l.assume()
	s.triggers.Store(hash(o, metadata), l)
	s.wake(l, 0)
	s.opts.Logger.Info("trigger opened", "namespace", o.namespace, "scaledObject", o.name, "trigger", l.label, "declared", declared)
	return l, nil
}

// answerable says what of a trigger this scaler cannot answer: without Kubernetes there is
// much that it does not know.
func (s *Scaler) answerable(t *trigger.Trigger) error {
	if s.opts.Cluster != nil && (t.Prometheus == nil || s.opts.Prometheus != nil) {
		return nil
	}
	without := func(key, value, lacks string) error {
		return fmt.Errorf("%s: %q; this scaler runs without Kubernetes, and would not know %s", key, value, lacks)
	}
	switch key, value := t.Capacity.Said(); {
	case t.Prometheus != nil:
		return without("prometheusAddress", t.Prometheus.Address, "how many replicas there are")
	case t.Follow != nil:
		return without("follow", t.Follow.String(), "the leader")
	case key != "":
		return without(key, value, "the GPUs")
	case t.Upstream != nil && t.Upstream.Service.Name != "":
		return without("upstream", t.Upstream.Service.String(), "the Service's endpoints")
	case t.AuthSecret != "":
		return without("authSecret", t.AuthSecret, "what it holds")
	case t.CASecret != "":
		return without("caSecret", t.CASecret, "what it holds")
	case len(t.Endpoints) == 0:
		return errors.New("endpoints: missing; wanted: host:port,… for this scaler runs without Kubernetes")
	}
	return nil
}

func (s *Scaler) hasRoom(o object, declared bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.room(o, declared)
}

// room says why there is none for another trigger. The caller holds the lock.
func (s *Scaler) room(o object, declared bool) error {
	if !declared && (len(s.byObject[o]) >= maxPerObject || s.opts.Cluster != nil && s.undeclared >= maxUndeclared) || s.count >= maxTriggers {
		return fmt.Errorf("%w: at most %d for a ScaledObject, %d that none declares, and %d in all", errTooMany, maxPerObject, maxUndeclared, maxTriggers)
	}
	return nil
}

func (s *Scaler) isDeclared(o object, metadata map[string]string) bool {
	if s.opts.Cluster == nil {
		return false
	}
	so, err := s.opts.Cluster.ScaledObject(o.namespace, o.name)
	return err == nil && declares(so.Triggers, metadata)
}

// sweep closes the triggers that nothing declares, holds a stream of, or has
// called for in a while.
func (s *Scaler) sweep(now time.Time) {
	var unused []*live
	s.mu.Lock()
	s.each(func(l *live) {
		keep := keepUndeclared
		if s.opts.Cluster == nil {
			keep = keepUnwatched
		}
		if !l.declared.Load() && l.watchers() == 0 && now.Sub(time.Unix(0, l.used.Load())) > keep {
			unused = append(unused, l)
			s.unlink(l)
		}
	})
	s.mu.Unlock()
	for _, l := range unused {
		l.close()
		s.tellFollowers(l) // it no longer speaks for the workload
	}
}

// markDeclared notes whether a ScaledObject declares the trigger; s.mu must be held.
func (s *Scaler) markDeclared(l *live, declared bool) {
	switch was := l.declared.Swap(declared); {
	case declared && !was:
		s.undeclared--
	case was && !declared:
		s.undeclared++
	}
}

// unlink takes a live trigger out of all lists; s.mu must be held. Its close is
// left to the caller, who must not hold s.mu: it waits for an evaluation.
func (s *Scaler) unlink(l *live) {
	s.triggers.CompareAndDelete(hash(l.object, l.metadata), l)
	if !l.declared.Load() {
		s.undeclared--
	}
	delete(s.byObject[l.object], l.key)
	if f := l.trigger.Follow; f != nil {
		leader := object{l.namespace, f.Name}
		delete(s.following[leader], l)
		if len(s.following[leader]) == 0 {
			delete(s.following, leader)
		}
	}
	s.peers.Store(l.object, slices.Collect(maps.Values(s.byObject[l.object])))
	if len(s.byObject[l.object]) == 0 {
		delete(s.byObject, l.object)
		s.peers.Delete(l.object)
	}
	s.count--
	s.opts.Logger.Info("trigger closed", "namespace", l.namespace, "scaledObject", l.name, "trigger", l.label)
}

// find is a live trigger without a lock, nil where there is none, or another one has its
// hash: those that share one are found by their keys.
func (s *Scaler) find(o object, metadata map[string]string) *live {
	found, ok := s.triggers.Load(hash(o, metadata))
	if !ok {
		return nil
	}
	if l := found.(*live); l.object == o && maps.Equal(l.metadata, metadata) {
		return l
	}
	return nil
}

var seed = maphash.MakeSeed()

// hash is of what key is of. It is made at every call, so the order of a map's keys, in
// which they would have to be put, has no part in it.
func hash(o object, metadata map[string]string) uint64 {
	sum := maphash.Comparable(seed, o)
	for k, v := range metadata {
		sum += maphash.Comparable(seed, [2]string{k, v})
	}
	return sum
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

// label tells a trigger apart in metrics and explanations from those that its
// ScaledObject has already: a short hash where that does.
func label(metricName, key string, others map[string]*live) string {
	h := fnv.New32a()
	h.Write([]byte(key))
	short := fmt.Sprintf("%s-%06x", metricName, h.Sum32()&0xffffff)
	for _, l := range others {
		if l.label == short {
			return fmt.Sprintf("%s-%x", metricName, sha256.Sum256([]byte(key)))
		}
	}
	return short
}

// declares reports whether one of a ScaledObject's triggers has these metadata.
func declares(triggers []cluster.ScaledObjectTrigger, called map[string]string) bool {
	return slices.ContainsFunc(triggers, func(t cluster.ScaledObjectTrigger) bool {
		return maps.Equal(t.Metadata, called)
	})
}
