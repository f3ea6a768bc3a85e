package kubernetes

import (
	"context"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
)

// Kubernetes' own components use these.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	leaseRetry    = 2 * time.Second
)

// elect holds or waits for the Lease until ctx is done.
func (r *Recorder) elect(ctx context.Context) error {
	lock := &leaseLock{
		Interface: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: r.opts.Namespace, Name: leaseName},
			Client:     r.kube.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: r.opts.Identity},
		},
		failed: r.leaseFailed(),
	}
	// leaderelection would log every failed attempt; leaseFailed does it instead.
	ctx = klog.NewContext(ctx, logr.Discard())
	for ctx.Err() == nil {
		elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: lock, Name: leaseName,
			LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: leaseRetry,
			ReleaseOnCancel: true, // another replica takes over at once
			Callbacks: leaderelection.LeaderCallbacks{
				// Called in a goroutine of its own, perhaps after the Lease was lost
				// again; its context tells.
				OnStartedLeading: func(ctx context.Context) {
					r.leading.Store(&ctx)
					r.log.Info("this replica writes events", "lease", r.opts.Namespace+"/"+leaseName)
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

func (r *Recorder) leaseFailed() func(ctx context.Context, verb string, err error) {
	var last time.Time // only the elector's goroutine gets here
	return func(ctx context.Context, verb string, err error) {
		if ctx.Err() != nil || !last.IsZero() && time.Since(last) < logEvery {
			return
		}
		last = time.Now()
		r.log.Warn("the Lease for events cannot be used; retrying, no events meanwhile",
			"verb", verb, "resource", "leases.coordination.k8s.io", "lease", r.opts.Namespace+"/"+leaseName, "err", err)
	}
}

// leaseLock reports what fails, other than losing to another replica.
type leaseLock struct {
	resourcelock.Interface
	failed func(ctx context.Context, verb string, err error)
}

func (l *leaseLock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record, raw, err := l.Interface.Get(ctx)
	if err != nil && !apierrors.IsNotFound(err) {
		l.failed(ctx, "get", err)
	}
	return record, raw, err
}

func (l *leaseLock) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	err := l.Interface.Create(ctx, record)
	if err != nil && !apierrors.IsAlreadyExists(err) {
		l.failed(ctx, "create", err)
	}
	return err
}

func (l *leaseLock) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	err := l.Interface.Update(ctx, record)
	if err != nil && !apierrors.IsConflict(err) {
		l.failed(ctx, "update", err)
	}
	return err
}
