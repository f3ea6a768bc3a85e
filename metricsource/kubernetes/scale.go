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
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/scale"
)

const (
	scaleReads       = 8                // at a time
	scaleReadTimeout = 10 * time.Second // of one
	// resetIntervals is how many poll intervals pass at least between two full
	// discoveries for the sake of a kind that is not known.
	resetIntervals = 6
)

// poller reads the scale subresource of the targets that no informer watches,
// for as long as a ScaledObject names them.
type poller struct {
	index    *index
	scales   scale.ScalesGetter
	mapper   meta.RESTMapper
	interval time.Duration
	log      *slog.Logger

	mu    sync.Mutex
	told  map[polledRef]told // the failures that were logged last
	reset time.Time          // of the mapper
}

type told struct {
	what string
	at   time.Time
}

func newPoller(cl clients, ix *index, interval time.Duration, log *slog.Logger) *poller {
	return &poller{index: ix, scales: cl.scales, mapper: cl.mapper, interval: interval, log: log, told: map[polledRef]told{}}
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
				return nil // a read cut short says nothing of the target
			}
			if err != nil {
				t = &target{err: err, gone: errors.Is(err, errGone)}
			}
			p.tell(ref, err)
			p.index.setPolled(ref, t)
			return nil
		})
	}
	_ = g.Wait()
}

// errGone: the API server knows the kind, and that there is no such object.
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
		// It is the path that is not found: the kind has no scale subresource, or
		// is no longer served in the version that was discovered.
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
		// An empty selector would claim every pod of the namespace. The HPA refuses
		// it too; some controllers fill it in a little later.
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

// mayReset makes the mapper discover anew, where it did not just do so: a kind
// that was not known may have been installed since.
func (p *poller) mayReset() bool {
	p.mu.Lock()
	may := p.reset.IsZero() || time.Since(p.reset) >= resetIntervals*p.interval
	if may {
		p.reset = time.Now()
	}
	p.mu.Unlock()
	if may {
		meta.MaybeResetRESTMapper(p.mapper) // waits for a discovery under way
	}
	return may
}

// tell logs a failure when it begins, ends, or (once a minute at most, as some
// messages carry port numbers) changes.
func (p *poller) tell(ref polledRef, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before, failing := p.told[ref]
	log := p.log.With("namespace", ref.namespace, "target", ref.String())
	if err == nil {
		if failing {
			delete(p.told, ref)
			log.Info("the scale subresource can be read again")
		}
		return
	}
	if failing && (err.Error() == before.what || time.Since(before.at) < logEvery) {
		return
	}
	p.told[ref] = told{err.Error(), time.Now()}
	switch {
	case apierrors.IsForbidden(err):
		log.Error("not allowed to read the scale subresource; grant its verb to the scaler's service account", "verbs", "get", "err", err)
	case errors.Is(err, cluster.ErrNotFound):
		log.Warn("the scale target does not exist", "err", err)
	default:
		log.Warn("the scale subresource cannot be read; the last answer stands", "err", err)
	}
}

// forget drops what was logged of targets that are no longer polled.
func (p *poller) forget(keep map[polledRef]struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for ref := range p.told {
		if _, ok := keep[ref]; !ok {
			delete(p.told, ref)
		}
	}
}
