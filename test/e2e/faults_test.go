package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/inference-scaler/inference-scaler/test/e2e/controlplane"
	"github.com/inference-scaler/inference-scaler/test/e2e/inference"
)

// busy is a fleet of 6 replicas with 28 requests in flight, which last until they
// are finished, and a ScaledObject that would follow any other answer at once.
func (s *scenario) busy() *fleet {
	s.Helper()
	f := s.fleet(workload{Replicas: 6, Slots: 64})
	f.burst(28) // every pod has its share
	f.scale(quick{min: 1, max: 20, triggers: push("engine: lightning-asr", "hold: 5s")}.String())
	f.until("the scaler knows of all", func(m moment) bool { return m.Value == 28 && m.Desired == 6 })
	return f
}

// unmoved holds the fleet to its 6 replicas until the function returned is called.
func (f *fleet) unmoved() (settle func()) {
	return f.never("other than 6 replicas", func(m moment) bool { return m.Replicas != 6 })
}

// kill ends a component, which is there again at the end, whatever becomes of the scenario.
func (s *scenario) kill(component string) {
	killed := s.cluster.Component(component)
	killed.Kill()
	s.Cleanup(func() {
		if s.cluster.Component(component) == killed {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := s.cluster.StartComponent(ctx, component); err != nil {
				s.Error(err)
			}
		}
	})
}

// grows checks that the fleet still follows its load: more requests, more replicas.
func (f *fleet) grows(more, replicas int) {
	f.Helper()
	begun := time.Now()
	f.burst(more)
	f.figure("%d more requests: %d replicas after %.1f s", more, replicas, f.atReplicas(replicas).Sub(begun).Seconds())
}

// The scaler is killed under load, and started again by its kubelet.
func TestScalerRestart(t *testing.T) {
	t.Parallel()
	s := begin(t)
	s.own(1, 0)
	f := s.busy()
	settle := f.unmoved()
	pod := s.scalers(s.namespace)[0]
	before := s.agent.Process(pod.UID)
	killed := time.Now()
	before.Kill()
	f.note("the scaler was killed")
	s.wait("the scaler runs again", func() error {
		if p := s.agent.Process(pod.UID); p == nil || p == before {
			return errors.New("it does not")
		}
		return nil
	})
	f.until("the scaler answers again", func(m moment) bool { return m.at.After(killed.Add(time.Second)) && m.Wanted == 6 })
	s.pause(10 * time.Second)
	settle()
	f.grows(12, 8)
	f.finish()
	f.atReplicas(1)
}

// The API server is killed, and is away for 20 s, while the load grows. Its clients
// come back to it at their own pace, the HPA's controller within a minute or so.
func TestAPIServerDown(t *testing.T) {
	f := begin(t).busy()
	settle := f.unmoved()
	f.kill(controlplane.APIServer)
	f.note("the API server was killed")
	f.pause(10 * time.Second)
	f.burst(12)
	f.until("the scaler answers with what it reads from the pods it knows", func(m moment) bool { return m.Wanted == 8 })
	f.pause(10 * time.Second)
	settle()
	down := f.never("fewer than 6 replicas", func(m moment) bool { return m.Replicas < 6 })
	begun := time.Now()
	require.NoError(t, f.cluster.StartComponent(t.Context(), controlplane.APIServer))
	f.figure("8 replicas %.1f s after the API server was started again", f.ready(8).Sub(begun).Seconds())
	f.stays(8, 10*time.Second)
	down()
}

// The KEDA operator is killed, and is away for 10 s.
func TestOperatorKilled(t *testing.T) {
	f := begin(t).busy()
	settle := f.unmoved()
	f.kill(controlplane.KedaOperator)
	f.note("the KEDA operator was killed")
	f.pause(10 * time.Second)
	begun := time.Now()
	require.NoError(t, f.cluster.StartComponent(t.Context(), controlplane.KedaOperator))
	f.note("it works again")
	f.pause(5 * time.Second)
	settle()
	f.grows(12, 8)
	f.figure("%.1f s after the operator was started again", time.Since(begun).Seconds())
	f.finish()
	f.atReplicas(1)
}

// A third of the pods do not answer any more, then none does.
func TestPodsUnreachable(t *testing.T) {
	t.Parallel()
	f := begin(t).busy()
	settle := f.unmoved()
	// Longer than staleAfter, hold and the window of the ScaledObject together.
	const lasting = 17 * time.Second
	for _, fault := range []struct {
		text string
		pods int
		kind inference.Fault
	}{
		{"a third of the pods hangs", 2, inference.Hang},
		{"all pods hang", -1, inference.Hang},
		{"all pods refuse connections", -1, inference.Refuse},
	} {
		f.note("%s", fault.text)
		require.NoError(t, f.gateway.Fail(fault.pods, fault.kind))
		f.pause(lasting)
	}
	f.note("all answer again")
	require.NoError(t, f.gateway.Fail(-1, inference.None))
	f.until("the scaler answers 28 again", func(m moment) bool { return m.Value == 28 })
	settle()
	f.finish()
	f.atReplicas(1)
}

// An upgrade renames the metric: it is missed, not counted as zero.
func TestRenamedMetric(t *testing.T) {
	t.Parallel()
	f := begin(t).busy()
	settle := f.unmoved()
	f.note("asr_active_requests is called asr_requests_running")
	f.gateway.Rename("asr_active_requests", "asr_requests_running")
	f.wait("an event on the ScaledObject tells of it", func() error {
		events, err := f.cluster.Kube.EventsV1().Events(f.namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, e := range events.Items {
			if e.Regarding.Kind == "ScaledObject" && e.Regarding.Name == f.Name && e.Reason == "NoSeries" {
				f.figure("the event: %s", e.Note)
				return nil
			}
		}
		return fmt.Errorf("there are %d other events", len(events.Items))
	})
	f.pause(15 * time.Second)
	settle()
	f.gateway.Rename()
	f.until("the scaler answers 28 again", func(m moment) bool { return m.Value == 28 })
	f.grows(12, 8)
	f.finish()
	f.atReplicas(1)
}

// The ScaledObject is edited, paused, deleted and created again under load.
func TestScaledObjectLifecycle(t *testing.T) {
	t.Parallel()
	s := begin(t)
	f := s.busy()
	spec := func(target string) string {
		return quick{min: 1, max: 20, triggers: push("engine: lightning-asr", "hold: 5s", "target: "+target)}.String()
	}
	settle := f.never("fewer replicas than any target asks for", func(m moment) bool { return m.Replicas < 3 })

	f.note("edited: a target of 10")
	f.declare("", spec(`"10"`))
	f.ready(3)
	f.note("edited: a target of 4")
	f.declare("", spec(`"4"`))
	f.ready(7)

	f.note("paused, and edited: a target of 10")
	f.declare(`autoscaling.keda.sh/paused: "true"`, spec(`"10"`))
	f.wait("KEDA has taken the HPA away", func() error {
		if _, err := f.hpa(); err == nil {
			return errors.New("it is there")
		}
		return nil
	})
	f.stays(7, 8*time.Second)
	f.note("continued")
	f.declare("", spec(`"10"`))
	f.ready(3)

	f.note("deleted")
	f.release()
	f.stays(3, 8*time.Second)
	f.note("created again, with a target of 5")
	f.scale(spec(`"5"`))
	f.ready(6)
	settle()
	f.finish()
	f.atReplicas(1)
}

// rolled waits until all of n pods are of the new template, and no others are left.
func (f *fleet) rolled(n int) {
	f.Helper()
	f.wait("all pods are new", func() error {
		d, err := f.cluster.Kube.AppsV1().Deployments(f.namespace).Get(f.Context(), f.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if d.Status.ObservedGeneration < d.Generation {
			return errors.New("the new template has not been seen")
		}
		if all := f.present().Servers; int(d.Status.UpdatedReplicas) < n || int(d.Status.ReadyReplicas) < n || all > n {
			return fmt.Errorf("%d updated, %d ready, %d in all", d.Status.UpdatedReplicas, d.Status.ReadyReplicas, all)
		}
		return nil
	})
}

// The workload's own rolling update: old and new pods side by side, some loading,
// some draining, under a steady load.
func TestWorkloadRollout(t *testing.T) {
	t.Parallel()
	f := begin(t).fleet(workload{Replicas: 6, Slots: 16, Startup: 3 * time.Second, Drain: 20 * time.Second})
	stop := f.load(inference.Load{PerSecond: 5.8, Service: 5 * time.Second})
	f.until("the load is there", func(m moment) bool { return m.InFlight() >= 25 })
	f.scale(quick{min: 1, max: 20, triggers: push("engine: lightning-asr", "hold: 5s")}.String())
	f.until("the scaler answers", func(m moment) bool { return m.Wanted == 6 })
	// 29 requests are in flight; a machine that stumbles lets some more come at once.
	settle := f.never("fewer than 6 replicas, or more than 7", func(m moment) bool { return m.Replicas < 6 || m.Replicas > 7 })
	f.note("a new template")
	begun := time.Now()
	f.roll("2")
	f.rolled(6)
	f.figure("rolled in %.1f s", time.Since(begun).Seconds())
	f.pause(10 * time.Second)
	f.ready(6)
	settle()
	stop()
	f.served()
	require.Zero(t, f.gateway.Stats().Retried, "every old pod finished what it had")
	f.atReplicas(1)
}

// The HPA keeps what is within 10 % of its target, unless configured otherwise.
func TestTolerance(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		tolerance string
		within    int // replicas for a load 6 % above what 10 replicas carry
	}{
		"default": {"", 10},
		"none":    {`tolerance: "0", `, 11},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := begin(t).fleet(workload{Replicas: 10, Slots: 64})
			f.burst(50)
			f.scale(`
minReplicaCount: 1
maxReplicaCount: 20
pollingInterval: 1
advanced:
  horizontalPodAutoscalerConfig:
    behavior:
      scaleUp: {` + tc.tolerance + `stabilizationWindowSeconds: 0, policies: [{type: Pods, value: 100, periodSeconds: 1}]}
      scaleDown: {stabilizationWindowSeconds: 5}
triggers:
` + push("engine: lightning-asr", "hold: 5s"))
			f.until("10 are wanted", func(m moment) bool { return m.Wanted == 10 && m.Desired == 10 })
			f.burst(3)
			f.until("11 are wanted", func(m moment) bool { return m.Wanted == 11 })
			f.atReplicas(tc.within)
			f.stays(tc.within, 6*time.Second)
			f.burst(4)
			f.ready(12) // 57 are beyond the tolerance
			f.finish()
			f.atReplicas(1)
		})
	}
}
