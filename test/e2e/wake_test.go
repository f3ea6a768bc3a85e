package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// front gives the fleet an API server of that name, and waits until it is ready.
func (f *fleet) front(name string) {
	f.Helper()
	f.apply(render(frontManifest, struct {
		Name, Of string
		Replicas int
	}{name, f.Name, 1}))
	f.wait("the API server is ready", func() error {
		d, err := f.informers.Apps().V1().Deployments().Lister().Deployments(f.namespace).Get(name)
		if err == nil && d.Status.ReadyReplicas != 1 {
			err = fmt.Errorf("%d of 1 is", d.Status.ReadyReplicas)
		}
		return err
	})
}

// From the first arrival at zero through N to zero (a minute after the last arrival,
// for which KEDA's cooldown is too short here) and back. Every request counts
// once: 25 of them at a target of 5 are 5 replicas. That is so while they wait in the
// API server's queue, while they go to the pods, and there.
func TestWakesFromZero(t *testing.T) {
	t.Parallel()
	f := begin(t).fleet(workload{Replicas: 0, Slots: 8, Startup: 3 * time.Second})
	f.front("api")
	f.scale(quick{max: 10, triggers: push("engine: lightning-asr", "hold: 5s", "upstream: service/api:http")}.String())
	f.never("asleep with work in flight, once awake", func(m moment) bool { return m.Replicas == 0 && m.Running+m.Waiting > 0 })
	f.never("more than 5 replicas", func(m moment) bool { return m.Replicas > 5 || m.Wanted > 5 })
	for range 2 {
		f.stays(0, 5*time.Second)
		begun := time.Now()
		f.burst(25)
		woken := f.until("awake", func(m moment) bool { return m.Replicas > 0 })
		wanted := f.atReplicas(5)
		f.figure("0 → 1 after %.2f s, → 5 after %.1f s", woken.Sub(begun).Seconds(), wanted.Sub(begun).Seconds())
		f.until("5 replicas wanted", func(m moment) bool { return m.Wanted == 5 })
		settle := f.never("fewer than 5 replicas wanted", func(m moment) bool { return m.Wanted < 5 && m.Wanted >= 0 })
		f.ready(5)
		f.stays(5, 10*time.Second)
		settle()
		f.finish()
		f.atReplicas(0)
	}
}

// What is paused at zero stays there, and wakes once it no longer is.
func TestPausedScaleOut(t *testing.T) {
	t.Parallel()
	f := begin(t).fleet(workload{Replicas: 0})
	f.front("api")
	spec := quick{max: 10, triggers: push("engine: lightning-asr", "hold: 5s", "upstream: service/api:http")}.String()
	f.scale(spec)
	f.declare(`autoscaling.keda.sh/paused-scale-out: "true"`, spec)
	f.wait("the scaler has heard of it", f.paused)
	f.burst(3)
	f.stays(0, 10*time.Second)
	f.declare("", spec)
	begun := time.Now()
	woken := f.ready(1)
	f.figure("ready %.1f s after it was no longer paused", woken.Sub(begun).Seconds())
	f.finish()
	f.atReplicas(0)
}

// Work that waits already when the ScaledObject comes wakes the fleet, though KEDA
// drops a first word that comes before it has written its own status.
func TestWorkThatWaitedAlready(t *testing.T) {
	t.Parallel()
	f := begin(t).fleet(workload{Replicas: 0})
	f.front("api")
	f.burst(3)
	begun := time.Now()
	f.declare("", quick{max: 10, triggers: push("engine: lightning-asr", "hold: 5s", "upstream: service/api:http")}.String())
	ready := f.ready(1)
	f.figure("ready %.1f s after the ScaledObject", ready.Sub(begun).Seconds())
	f.finish()
	f.atReplicas(0)
}

// metricNames sets the names that KEDA has written into the ScaledObject's status,
// and returns those that were there.
func (f *fleet) metricNames(names []string) (before []string) {
	f.Helper()
	objects := f.cluster.Dynamic.Resource(scaledObjects).Namespace(f.namespace)
	object, err := objects.Get(f.Context(), f.Name, metav1.GetOptions{})
	require.NoError(f, err)
	before, _, err = unstructured.NestedStringSlice(object.Object, "status", "externalMetricNames")
	require.NoError(f, err)
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"externalMetricNames": names}})
	require.NoError(f, err)
	_, err = objects.Patch(f.Context(), f.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	require.NoError(f, err)
	return before
}

// KEDA silently drops a push for a metric that its status does not name, and here it
// polls once an hour. The push is repeated until KEDA has handled it.
func TestDroppedWakeUp(t *testing.T) {
	t.Parallel()
	f := begin(t).fleet(workload{Replicas: 0})
	f.front("api")
	spec := quick{max: 10, triggers: push("engine: lightning-asr", "hold: 5s", "upstream: service/api:http")}.String()
	f.scale(strings.Replace(spec, "pollingInterval: 1\n", "pollingInterval: 3600\n", 1))
	f.wait("KEDA's status names the metric", func() error {
		names := f.metricNames(nil)
		if len(names) == 0 {
			return errors.New("it does not")
		}
		f.metricNames(names)
		return nil
	})
	f.stays(0, 5*time.Second)
	names := f.metricNames(nil)
	f.burst(3)
	f.stays(0, 5*time.Second) // what wakes a fleet within milliseconds was dropped
	f.metricNames(names)
	begun := time.Now()
	ready := f.ready(1)
	f.figure("ready %.1f s after KEDA could hear it", ready.Sub(begun).Seconds())
	f.finish()
}

// report posts to one replica of the scaler what waits in the fleet's gateway.
func (f *fleet) report(ctx context.Context, queued int) error {
	ready := f.readyScalers(f.scaler.Namespace)
	if len(ready) == 0 {
		return errors.New("no scaler is ready")
	}
	body := fmt.Sprintf(`{"namespace": %q, "workload": %q, "instance": "api", "sequence": %d, "timeToLive": "15s",
		"samples": [{"name": "demand_queued_requests", "value": %d}]}`, f.namespace, f.Name, time.Now().UnixNano(), queued)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+ready[0].Status.PodIP+":4318/v1/demand", bytes.NewBufferString(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer token-of-the-scenarios")
	resp, err := scalerClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("HTTP status %d: %s, %w", resp.StatusCode, text, err)
	}
	return nil
}

// reporting reports the gateway's queue when it changes, and every 5 s.
func (f *fleet) reporting() {
	ctx, done := f.Context(), make(chan struct{})
	f.Cleanup(func() { <-done })
	go func() {
		defer close(done)
		look := time.NewTicker(5 * time.Millisecond)
		defer look.Stop()
		last, at := -1, time.Time{}
		for {
			select {
			case <-ctx.Done():
				return
			case <-look.C:
			}
			stats := f.gateway.Stats()
			if queued := stats.Backlog + stats.StreamQueue; queued != last || time.Since(at) > 5*time.Second {
				if err := f.report(ctx, queued); err != nil {
					f.note("a report failed: %v", err)
					continue
				}
				last, at = queued, time.Now()
			}
		}
	}()
}

// What is reported wakes the fleet on the edge, whatever the polling interval, and
// though it is reported to one replica of the scaler and KEDA's stream may be another's.
func TestWakesByReport(t *testing.T) {
	t.Parallel()
	f := begin(t).fleet(workload{Replicas: 0})
	f.scale(quick{max: 10, triggers: push("engine: lightning-asr", "hold: 1s")}.String())
	f.reporting()
	f.never("asleep with work in flight, once awake", func(m moment) bool { return m.Replicas == 0 && m.Running+m.Waiting > 0 })
	var took []time.Duration
	for range 5 {
		f.stays(0, 2*time.Second)
		begun := time.Now()
		f.burst(8)
		for n := 0; n == 0; {
			var err error
			n, err = f.replicas()
			require.NoError(f, err)
			require.Less(f, time.Since(begun), patience)
			time.Sleep(time.Millisecond)
		}
		took = append(took, time.Since(begun))
		f.ready(2)
		f.finish()
		f.atReplicas(0)
	}
	slices.SortFunc(took, cmp.Compare)
	f.figure("0 → 1 after a p50 of %d ms (%d to %d) from the request", took[2].Milliseconds(), took[0].Milliseconds(), took[4].Milliseconds())
}
