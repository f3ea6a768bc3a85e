package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/scale"
)

const (
	scaleReads       = 8 // concurrent
	scaleReadTimeout = 10 * time.Second
	// resetIntervals is the minimum number of poll intervals between two full discoveries
	// because of an unknown kind.
	resetIntervals = 6
	// logInterval bounds how often a changing failure is logged.
	logInterval = time.Minute
)

// poller reads the scale subresources of the targets that no informer watches, while a
// ScaledObject references them.
type poller struct {
	index    *index
	scales   scale.ScalesGetter
	mapper   meta.RESTMapper
	interval time.Duration
	log      *slog.Logger

	mu       sync.Mutex
	failures map[polledRef]*failure // of the targets that cannot be read
	reset    time.Time              // of the mapper
}

// failure is the last logged one of a target.
type failure struct {
	message string
	log     rate.Sometimes
}

func newPoller(cl clients, ix *index, interval time.Duration, log *slog.Logger) *poller {
	return &poller{index: ix, scales: cl.scales, mapper: cl.mapper, interval: interval, log: log, failures: map[polledRef]*failure{}}
}

func (p *poller) run(ctx context.Context) {
	tick := time.NewTicker(p.interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.index.wake:
			p.read(ctx, p.index.takeDue())
		case <-tick.C:
			refs := p.index.polled()
			p.forget(refs)
			p.read(ctx, refs)
		}
	}
}

func (p *poller) read(ctx context.Context, refs map[polledRef]struct{}) {
	var g errgroup.Group
	g.SetLimit(scaleReads)
	for ref := range refs {
		g.Go(func() error {
			t, err := p.get(ctx, ref)
			if ctx.Err() != nil {
				return nil // an interrupted read is no result
			}
			if err != nil {
				t = &target{err: err, gone: errors.Is(err, errGone)}
			}
			p.logResult(ref, err)
			p.index.setPolled(ref, t)
			return nil
		})
	}
	_ = g.Wait()
}

// errGone: the API server knows the kind, and no such object exists.
var errGone = fmt.Errorf("%w", cluster.ErrNotFound)

// get reads one scale subresource. Errors wrap errGone, cluster.ErrNotFound
// for a kind that the cluster does not know, or else cluster.ErrNotSynced.
func (p *poller) get(ctx context.Context, ref polledRef) (*target, error) {
	ctx, cancel := context.WithTimeout(ctx, scaleReadTimeout)
	defer cancel()
	resource, err := p.resource(ref)
	if meta.IsNoMatchError(err) {
		return nil, fmt.Errorf("%w: %w", cluster.ErrNotFound, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: finding its resource: %w", cluster.ErrNotSynced, err)
	}
	s, err := p.scales.Scales(ref.namespace).Get(ctx, resource, ref.name, metav1.GetOptions{})
	switch {
	case err == nil:
		return fromScale(ref.targetRef, s)
	case !apierrors.IsNotFound(err):
		return nil, fmt.Errorf("%w: get %s/scale: %w", cluster.ErrNotSynced, resource, err)
	case apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse):
		// The path was not found: the kind has no scale subresource, or its discovered
		// version is no longer served.
		p.mayReset()
		return nil, fmt.Errorf("%w: get %s/scale: no such path: %w", cluster.ErrNotSynced, resource, err)
	}
	return nil, errGone
}

func fromScale(ref targetRef, s *autoscalingv1.Scale) (*target, error) {
	selector, err := labels.Parse(s.Status.Selector)
	if err != nil {
		return nil, fmt.Errorf("%w: status.selector of its scale subresource: %w", cluster.ErrNotSynced, err)
	}
	if selector.Empty() {
		// An empty selector would match every pod of the namespace. The HPA rejects it
		// too. Some controllers set the selector after the object was created.
		return nil, fmt.Errorf("%w: its scale subresource reports no status.selector", cluster.ErrNotSynced)
	}
	return &target{ref: ref, replicas: int(s.Spec.Replicas), selector: selector}, nil
}

func (p *poller) resource(ref polledRef) (schema.GroupResource, error) {
	kind := schema.GroupKind{Group: ref.group, Kind: ref.kind}
	m, err := p.mapper.RESTMapping(kind, ref.version)
	if meta.IsNoMatchError(err) && p.mayReset() {
		m, err = p.mapper.RESTMapping(kind, ref.version)
	}
	if err != nil {
		return schema.GroupResource{}, err
	}
	return m.Resource.GroupResource(), nil
}

// mayReset makes the mapper repeat its discovery, unless it did so recently: an unknown
// kind may have been installed since.
func (p *poller) mayReset() bool {
	p.mu.Lock()
	may := p.reset.IsZero() || time.Since(p.reset) >= resetIntervals*p.interval
	if may {
		p.reset = time.Now()
	}
	p.mu.Unlock()
	if may {
		meta.MaybeResetRESTMapper(p.mapper) // waits for a running discovery
	}
	return may
}

// logResult logs when a target can no longer be read, when it can be read again, and at
// most once a minute when the error changes: some errors contain port numbers.
func (p *poller) logResult(ref polledRef, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.failures[ref]
	log := p.log.With("namespace", ref.namespace, "target", ref.String())
	if err == nil {
		if f != nil {
			delete(p.failures, ref)
			log.Info("the scale subresource can be read again")
		}
		return
	}
	if f == nil {
		f = &failure{log: rate.Sometimes{Interval: logInterval}}
		p.failures[ref] = f
	}
	if f.message == err.Error() {
		return
	}
	f.log.Do(func() {
		f.message = err.Error()
		switch {
		case apierrors.IsForbidden(err):
			log.Error("not allowed to read the scale subresource; grant its verb to the scaler's service account", "verbs", "get", "err", err)
		case errors.Is(err, cluster.ErrNotFound):
			log.Warn("the scale target does not exist", "err", err)
		default:
			log.Warn("the scale subresource cannot be read; its last known values remain in use", "err", err)
		}
	})
}

// forget removes the failures of targets that are no longer polled.
func (p *poller) forget(keep map[polledRef]struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for ref := range p.failures {
		if _, ok := keep[ref]; !ok {
			delete(p.failures, ref)
		}
	}
}
