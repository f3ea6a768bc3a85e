package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/time/rate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kube "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
)

// The defaults of Kubernetes' own components.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
)

// logInterval bounds how often a continuing failure is logged again.
const logInterval = time.Minute

// Options of a Lease; all but Logger are required.
type Options struct {
	Namespace, Name string       // of the Lease object
	Identity        string       // of this replica: its pod's name
	Logger          *slog.Logger // nil: slog.Default
}

// Lease is held by at most one replica at a time. Its methods are safe for concurrent use.
type Lease struct {
	client kube.Interface
	opts   Options
	log    *slog.Logger
	// leading is done when the leadership ends; nil before the first one.
	leading atomic.Pointer[context.Context]
}

// New returns a Lease that is not held before Run.
func New(client kube.Interface, opts Options) (*Lease, error) {
	if opts.Namespace == "" || opts.Name == "" || opts.Identity == "" {
		return nil, errors.New("lease: namespace, name and identity are required")
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	return &Lease{client: client, opts: opts, log: opts.Logger.With("lease", opts.Namespace+"/"+opts.Name)}, nil
}

// Identity of this replica.
func (l *Lease) Identity() string { return l.opts.Identity }

// Held reports whether this replica holds the Lease.
func (l *Lease) Held() bool {
	ctx := l.leading.Load()
	return ctx != nil && (*ctx).Err() == nil
}

// Run competes for the Lease, renews it while it is held, and releases it when ctx is
// done. Errors of the API server are logged and retried.
func (l *Lease) Run(ctx context.Context) error {
	lock := &reportingLock{
		Interface: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: l.opts.Namespace, Name: l.opts.Name},
			Client:     l.client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: l.opts.Identity},
		},
		log:   l.log,
		limit: rate.Sometimes{Interval: logInterval},
	}
	// leaderelection logs every failed attempt, 30 a minute; reportingLock replaces that.
	ctx = klog.NewContext(ctx, logr.Discard())
	for ctx.Err() == nil {
		elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: lock, Name: l.opts.Name,
			LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod,
			ReleaseOnCancel: true, // another replica acquires it at its next attempt
			Callbacks: leaderelection.LeaderCallbacks{
				// client-go calls this from a new goroutine, possibly after the Lease was
				// lost again. Then ctx is already done.
				OnStartedLeading: func(ctx context.Context) {
					l.leading.Store(&ctx)
					l.log.Info("this replica holds the Lease")
				},
				OnStoppedLeading: func() {},
			},
		})
		if err != nil {
			return fmt.Errorf("leader election: %w", err)
		}
		elector.Run(ctx)
	}
	return nil
}

// reportingLock logs errors other than losing the Lease to another replica.
type reportingLock struct {
	resourcelock.Interface
	log   *slog.Logger
	limit rate.Sometimes
}

func (l *reportingLock) report(ctx context.Context, verb string, err error) {
	if ctx.Err() != nil {
		return
	}
	l.limit.Do(func() {
		l.log.Warn("the Lease cannot be used; retrying, this replica does not write until then",
			"verb", verb, "resource", "leases.coordination.k8s.io", "err", err)
	})
}

// Get implements resourcelock.Interface.
func (l *reportingLock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record, raw, err := l.Interface.Get(ctx)
	if err != nil && !apierrors.IsNotFound(err) {
		l.report(ctx, "get", err)
	}
	return record, raw, err
}

// Create implements resourcelock.Interface.
func (l *reportingLock) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	err := l.Interface.Create(ctx, record)
	if err != nil && !apierrors.IsAlreadyExists(err) {
		l.report(ctx, "create", err)
	}
	return err
}

// Update implements resourcelock.Interface.
func (l *reportingLock) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	err := l.Interface.Update(ctx, record)
	if err != nil && !apierrors.IsConflict(err) {
		l.report(ctx, "update", err)
	}
	return err
}
