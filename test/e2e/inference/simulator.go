package inference

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"
)

// The annotations of a pod that is an inference server. Durations are Go's.
const (
	EngineAnnotation      = "e2e/engine"       // one of the simulated engines
	slotsAnnotation       = "e2e/slots"        // requests served at once; 8
	streamSlotsAnnotation = "e2e/stream-slots" // sessions served at once; 0
	startupAnnotation     = "e2e/startup"      // model loading; 0s
	warmupAnnotation      = "e2e/warmup"       // service takes twice as long after that; 0s
	// workloadLabel names the workload of a pod.
	workloadLabel = "app"
)

// Simulator serves the pods of a cluster.
type Simulator struct {
	// SetReady tells the cluster that a pod is ready: it serves.
	SetReady func(ctx context.Context, namespace, pod string) error
	Log      *slog.Logger

	expositions map[string]*exposition
	mu          sync.Mutex
	fleets      map[string]*Fleet
	fronts      map[string]*front // by pod UID
	joined      int               // fronts, so far
}

// Watch handles the informer's events about pods, until ctx is done.
func (s *Simulator) Watch(ctx context.Context, pods cache.SharedIndexInformer) error {
	var err error
	if s.expositions, err = loadEngines(); err != nil {
		return err
	}
	s.fleets, s.fronts = map[string]*Fleet{}, map[string]*front{}
	set := func(obj any) {
		switch pod, ok := obj.(*corev1.Pod); {
		case !ok:
		case pod.Annotations[EngineAnnotation] != "":
			s.report(pod, s.set(ctx, pod))
		case pod.Annotations[FrontAnnotation] != "":
			s.report(pod, s.front(ctx, pod))
		}
	}
	_, err = pods.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    set,
		UpdateFunc: func(_, obj any) { set(obj) },
		DeleteFunc: func(obj any) {
			if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = gone.Obj
			}
			switch pod, ok := obj.(*corev1.Pod); {
			case !ok:
			case pod.Annotations[FrontAnnotation] != "":
				s.removeFront(pod)
			case pod.Annotations[EngineAnnotation] != "":
				f := s.Fleet(pod.Namespace, pod.Labels[workloadLabel])
				f.mu.Lock()
				defer f.mu.Unlock()
				s.report(pod, f.remove(string(pod.UID)))
			}
		},
	})
	return err
}

// Fleet is the one of a workload, whether it has pods already or not.
func (s *Simulator) Fleet(namespace, workload string) *Fleet {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fleet(namespace, workload)
}

// fleet is that while s.mu is held.
func (s *Simulator) fleet(namespace, workload string) *Fleet {
	key := namespace + "/" + workload
	if s.fleets[key] == nil {
		s.fleets[key] = &Fleet{x: s.expositions, servers: map[string]*server{}}
	}
	return s.fleets[key]
}

func (s *Simulator) report(pod *corev1.Pod, err error) {
	if err != nil {
		s.Log.Error("a simulated server", "pod", pod.Namespace+"/"+pod.Name, "err", err)
	}
}

func (s *Simulator) set(ctx context.Context, pod *corev1.Pod) error {
	f := s.Fleet(pod.Namespace, pod.Labels[workloadLabel])
	f.mu.Lock()
	defer f.mu.Unlock()
	one := f.servers[string(pod.UID)]
	if one == nil {
		p, err := parseProfile(pod.Annotations)
		if err != nil {
			return err
		}
		x := s.expositions[p.engine]
		one = &server{fleet: f, profile: p, pod: pod.Name, created: pod.CreationTimestamp.Time}
		for m := range one.measure {
			one.measure[m].bounds = x.bounds[m]
		}
		f.servers[string(pod.UID)] = one
	}
	one.going = pod.DeletionTimestamp != nil
	if one.ip == "" && pod.Status.PodIP != "" {
		one.ip = pod.Status.PodIP
		time.AfterFunc(one.profile.startup, func() { s.report(pod, s.serve(ctx, f, one, pod)) })
	}
	if ready := isReady(pod); ready != one.ready {
		f.becomeReady(one, ready)
	}
	return nil
}

// serve is the end of model loading: the server listens, then it is ready.
func (s *Simulator) serve(ctx context.Context, f *Fleet, one *server, pod *corev1.Pod) error {
	f.mu.Lock()
	if f.servers[string(pod.UID)] != one || ctx.Err() != nil {
		f.mu.Unlock()
		return nil
	}
	one.loaded = time.Now()
	err := one.listen(s.expositions[one.profile.engine])
	f.mu.Unlock()
	if err != nil {
		return err
	}
	if err := s.SetReady(ctx, pod.Namespace, pod.Name); err != nil && ctx.Err() == nil {
		return fmt.Errorf("tell that it is ready: %w", err)
	}
	return nil
}

func isReady(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func parseProfile(annotations map[string]string) (profile, error) {
	p := profile{engine: annotations[EngineAnnotation], slots: 8}
	if _, ok := engines[p.engine]; !ok {
		return p, fmt.Errorf("%s: %q; wanted: one of the simulated engines", EngineAnnotation, p.engine)
	}
	for name, set := range map[string]func(string) error{
		slotsAnnotation:       func(v string) (err error) { p.slots, err = strconv.Atoi(v); return err },
		streamSlotsAnnotation: func(v string) (err error) { p.streamSlots, err = strconv.Atoi(v); return err },
		startupAnnotation:     func(v string) (err error) { p.startup, err = time.ParseDuration(v); return err },
		warmupAnnotation:      func(v string) (err error) { p.warmup, err = time.ParseDuration(v); return err },
	} {
		if v, ok := annotations[name]; ok {
			if err := set(v); err != nil {
				return p, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return p, nil
}
