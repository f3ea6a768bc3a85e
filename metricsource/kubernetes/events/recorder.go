package events

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/excerpt"
	"github.com/inference-scaler/inference-scaler/metricsource/kubernetes/lease"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	kube "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record/util"
)

const (
	controller       = "inference-scaler"
	repeatInterval   = 10 * time.Minute // between two equal events
	logInterval      = time.Minute      // between two logs of a continuing failure
	pruneInterval    = time.Minute
	queueLength      = 256
	writeTimeout     = 10 * time.Second
	maxNote, maxText = 1024, 128 // bytes: limits of the API server
)

// Recorder writes Kubernetes events on ScaledObjects. client-go's broadcasters are not
// used: they merge events that differ only in their note, and start goroutines that
// cannot be awaited.
type Recorder struct {
	client kube.Interface
	lease  *lease.Lease
	uid    func(namespace, scaledObject string) (types.UID, bool)
	log    *slog.Logger
	queue  chan event
	// failures limits the log of failed writes. lastStamp is the suffix of the last
	// event's name. Only Run uses both.
	failures  rate.Sometimes
	lastStamp int64

	mu      sync.Mutex
	written map[eventKey]time.Time
	pruning rate.Sometimes
}

type eventKey struct{ namespace, scaledObject, reason, note string }

type event struct {
	eventKey
	warning bool
	at      time.Time
}

// New returns a Recorder that writes while this replica holds the Lease, which the caller
// runs. uid returns the UID of a ScaledObject, and false if the ScaledObject is unknown.
func New(client kube.Interface, held *lease.Lease, uid func(namespace, scaledObject string) (types.UID, bool), log *slog.Logger) *Recorder {
	return &Recorder{
		client: client, lease: held, uid: uid, log: log,
		queue: make(chan event, queueLength), written: map[eventKey]time.Time{},
		failures: rate.Sometimes{Interval: logInterval}, pruning: rate.Sometimes{Interval: pruneInterval},
	}
}

// Run writes queued events until ctx is done. Failed writes are logged, not retried.
func (r *Recorder) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-r.queue:
			r.write(ctx, e)
		}
	}
}

// Event queues an event on a ScaledObject. It never blocks. The event is dropped, with a
// log at debug level, if another replica holds the Lease or the queue is full. An equal
// event (ScaledObject, reason and note) is written at most once in 10 minutes.
func (r *Recorder) Event(namespace, scaledObject, reason, note string, warning bool) {
	e := event{eventKey{namespace, scaledObject, reason, note}, warning, time.Now()}
	if !r.lease.Held() {
		r.drop(e, "another replica holds the Lease")
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pruning.Do(func() { r.prune(e.at) })
	if at, ok := r.written[e.eventKey]; ok && e.at.Sub(at) < repeatInterval {
		return
	}
	select {
	case r.queue <- e:
		r.written[e.eventKey] = e.at
	default:
		r.drop(e, "the queue is full")
	}
}

func (r *Recorder) drop(e event, why string) {
	r.log.Debug("event dropped", "why", why, "namespace", e.namespace, "scaledobject", e.scaledObject, "reason", e.reason, "note", e.note)
}

// prune removes the events that may be written again. The caller holds the lock.
func (r *Recorder) prune(now time.Time) {
	for k, at := range r.written {
		if now.Sub(at) >= repeatInterval {
			delete(r.written, k)
		}
	}
}

func (r *Recorder) write(ctx context.Context, e event) {
	if !r.lease.Held() {
		r.drop(e, "the Lease was lost")
		r.forget(e)
		return
	}
	uid, ok := r.uid(e.namespace, e.scaledObject)
	if !ok {
		r.drop(e, "the ScaledObject is not known")
		r.forget(e)
		return
	}
	kind := corev1.EventTypeNormal
	if e.warning {
		kind = corev1.EventTypeWarning
	}
	r.lastStamp = max(r.lastStamp+1, e.at.UnixNano()) // unique, also for two events of the same nanosecond
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	_, err := r.client.EventsV1().Events(e.namespace).Create(ctx, &eventsv1.Event{
		ObjectMeta:          metav1.ObjectMeta{Namespace: e.namespace, Name: util.GenerateEventName(e.scaledObject, r.lastStamp)},
		EventTime:           metav1.NewMicroTime(e.at),
		ReportingController: controller,
		ReportingInstance:   excerpt.Of(r.lease.Identity(), maxText),
		Action:              "Scale",
		Reason:              excerpt.Of(e.reason, maxText),
		Note:                excerpt.Of(e.note, maxNote),
		Type:                kind,
		// kubectl describe finds events by the UID.
		Regarding: corev1.ObjectReference{
			APIVersion: "keda.sh/v1alpha1", Kind: "ScaledObject",
			Namespace: e.namespace, Name: e.scaledObject, UID: uid,
		},
	}, metav1.CreateOptions{})
	if err == nil || ctx.Err() == context.Canceled {
		return
	}
	r.forget(e)
	r.failures.Do(func() {
		r.log.Warn("an event could not be written", "verbs", "create", "resource", "events.events.k8s.io",
			"namespace", e.namespace, "scaledobject", e.scaledObject, "reason", e.reason, "err", err)
	})
}

// forget permits an event that was not written to be queued again.
func (r *Recorder) forget(e event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.written, e.eventKey)
}
