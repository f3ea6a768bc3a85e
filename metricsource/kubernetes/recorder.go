package kubernetes

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kube "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record/util"

	"github.com/inference-scaler/inference-scaler/metricsource/excerpt"
)

const (
	controller    = "inference-scaler"
	leaseName     = "inference-scaler-events"
	sameEventOnce = 10 * time.Minute
	eventQueue    = 256
	eventTimeout  = 10 * time.Second // of writing one
	// What the API server accepts, in bytes.
	maxNote, maxField = 1024, 128
)

// Recorder writes Kubernetes events on ScaledObjects; with several replicas of
// the scaler only the one that holds a Lease writes. (client-go's own
// broadcasters are not used: they merge events that differ in their note only,
// and start goroutines that nobody can await.)
type Recorder struct {
	kube  kube.Interface
	index *index
	opts  RecorderOptions
	log   *slog.Logger
	queue chan event
	// Run's writer alone uses these: when a failed write was last logged, and what
	// the last event's name was made of.
	failed time.Time
	stamp  int64
	// leading ends with the leadership; nil before the first.
	leading atomic.Pointer[context.Context]

	mu      sync.Mutex
	written map[eventKey]time.Time
	pruned  time.Time
}

// RecorderOptions of a Recorder; Namespace and Identity are required.
type RecorderOptions struct {
	Namespace string       // of the Lease: the scaler's own
	Identity  string       // of this replica: its pod's name
	Logger    *slog.Logger // nil: the Cluster's
}

type eventKey struct{ namespace, scaledObject, reason, note string }

type event struct {
	eventKey
	warning bool
	at      time.Time
}

// NewRecorder returns a Recorder for the ScaledObjects that c watches.
func (c *Cluster) NewRecorder(opts RecorderOptions) (*Recorder, error) {
	if opts.Namespace == "" || opts.Identity == "" {
		return nil, errors.New("kubernetes: a recorder needs the namespace of its Lease and an identity")
	}
	if opts.Logger == nil {
		opts.Logger = c.log
	}
	return &Recorder{
		kube: c.clients.kube, index: c.index, opts: opts, log: opts.Logger,
		queue: make(chan event, eventQueue), written: map[eventKey]time.Time{},
	}, nil
}

// Run competes for the Lease, and writes while it holds it, until ctx is done.
// Whatever the API server refuses is logged and tried again.
func (r *Recorder) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.elect(ctx) })
	g.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case e := <-r.queue:
				r.write(ctx, e)
			}
		}
	})
	return g.Wait()
}

// Event asks for an event on a ScaledObject. It never blocks. The event is
// dropped, with a line at debug level, where this replica is not the one that
// writes, or cannot keep up; the same reason and note on the same ScaledObject
// are not written again within 10 minutes.
func (r *Recorder) Event(namespace, scaledObject, reason, note string, warning bool) {
	e := event{eventKey{namespace, scaledObject, reason, note}, warning, time.Now()}
	if !r.holdsLease() {
		r.drop(e, "another replica writes events")
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.prune(e.at)
	if at, ok := r.written[e.eventKey]; ok && e.at.Sub(at) < sameEventOnce {
		return
	}
	select {
	case r.queue <- e:
		r.written[e.eventKey] = e.at
	default:
		r.drop(e, "too many events at once")
	}
}

func (r *Recorder) holdsLease() bool {
	ctx := r.leading.Load()
	return ctx != nil && (*ctx).Err() == nil
}

func (r *Recorder) drop(e event, why string) {
	r.log.Debug("event dropped", "why", why, "namespace", e.namespace, "scaledobject", e.scaledObject, "reason", e.reason, "note", e.note)
}

// prune forgets, once a minute at most, what may be written again.
func (r *Recorder) prune(now time.Time) {
	if now.Sub(r.pruned) < time.Minute {
		return
	}
	r.pruned = now
	for k, at := range r.written {
		if now.Sub(at) >= sameEventOnce {
			delete(r.written, k)
		}
	}
}

func (r *Recorder) write(ctx context.Context, e event) {
	if !r.holdsLease() {
		r.drop(e, "the Lease was lost")
		r.forget(e)
		return
	}
	uid, ok := r.index.uid(e.namespace, e.scaledObject)
	if !ok {
		r.drop(e, "no such ScaledObject")
		r.forget(e)
		return
	}
	kind := corev1.EventTypeNormal
	if e.warning {
		kind = corev1.EventTypeWarning
	}
	r.stamp = max(r.stamp+1, e.at.UnixNano()) // two events may be of the same instant
	ctx, cancel := context.WithTimeout(ctx, eventTimeout)
	defer cancel()
	_, err := r.kube.EventsV1().Events(e.namespace).Create(ctx, &eventsv1.Event{
		ObjectMeta:          metav1.ObjectMeta{Namespace: e.namespace, Name: util.GenerateEventName(e.scaledObject, r.stamp)},
		EventTime:           metav1.NewMicroTime(e.at),
		ReportingController: controller,
		ReportingInstance:   excerpt.Of(r.opts.Identity, maxField),
		Action:              "Scale",
		Reason:              excerpt.Of(e.reason, maxField),
		Note:                excerpt.Of(e.note, maxNote),
		Type:                kind,
		// kubectl describe finds events by the UID.
		Regarding: corev1.ObjectReference{
			APIVersion: scaledObjects.GroupVersion().String(), Kind: "ScaledObject",
			Namespace: e.namespace, Name: e.scaledObject, UID: uid,
		},
	}, metav1.CreateOptions{})
	if err == nil || ctx.Err() == context.Canceled {
		return
	}
	r.forget(e)
	if time.Since(r.failed) >= logEvery {
		r.failed = time.Now()
		r.log.Warn("an event could not be written", "verbs", "create", "resource", "events.events.k8s.io",
			"namespace", e.namespace, "scaledobject", e.scaledObject, "reason", e.reason, "err", err)
	}
}

// forget lets an event that was not written be asked for again.
func (r *Recorder) forget(e event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.written, e.eventKey)
}
