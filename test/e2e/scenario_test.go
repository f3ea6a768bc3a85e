package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/inference-scaler/inference-scaler/test/e2e/controlplane"
	"github.com/inference-scaler/inference-scaler/test/e2e/inference"
)

// patience bounds every wait for a state: it only ends a hang.
const patience = 4 * time.Minute

// scenario is one test with a namespace of its own.
type scenario struct {
	*testing.T
	*environment
	namespace string
	scaler    scalerInstall // that its triggers name
	fleets    []*fleet
	nodes     []string // of its own
}

// begin makes the scenario's namespace. What is in there ends with the test; if
// that has failed, its timelines stay in the folder of the run.
func begin(t *testing.T) *scenario {
	t.Helper()
	s := &scenario{
		T: t, environment: env, scaler: scalerInstall{Namespace: "keda", Replicas: 2},
		namespace: fmt.Sprintf("%s-%04x", strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(strings.TrimPrefix(t.Name(), "Test"))), rand.IntN(1<<16)),
	}
	s.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: " + s.namespace + "}")
	t.Cleanup(func() {
		for _, f := range s.fleets {
			f.stopWatching()
			s.Logf("timeline of %s/%s (%s)\n%s", s.namespace, f.Name, f.figures(), f.timeline)
		}
		if t.Failed() {
			s.keep()
		}
		// The workloads' pods are to be gone before other scenarios need their GPUs.
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		for _, f := range s.fleets {
			f.remove(ctx)
		}
		s.removeNodes(ctx, s.nodes...)
		_ = s.cluster.Kube.CoreV1().Namespaces().Delete(ctx, s.namespace, metav1.DeleteOptions{})
	})
	return s
}

// own gives the scenario an installation of the product for itself.
func (s *scenario) own(replicas, minReady int) {
	s.Helper()
	s.scaler = scalerInstall{Namespace: s.namespace, Replicas: replicas, Own: true, MinReady: minReady}
	require.NoError(s, s.installScaler(s.Context(), s.scaler))
}

func (s *scenario) apply(yaml string) {
	s.Helper()
	require.NoError(s, s.cluster.Apply(s.Context(), s.namespace, yaml))
}

// wait waits for a state.
func (s *scenario) wait(state string, check func() error) {
	s.Helper()
	require.NoError(s, controlplane.Until(s.Context(), patience+3**window, state, func(context.Context) error { return check() }))
}

// keep writes the timelines, and the scaler's explanations, into the folder of the run.
func (s *scenario) keep() {
	dir := filepath.Join(s.dir, strings.ReplaceAll(s.Name(), "/", "_"))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		s.Log(err)
		return
	}
	for _, f := range s.fleets {
		explanation, _ := f.explanation()
		text := f.figures() + "\n" + f.String() + "\n" + string(explanation)
		if err := os.WriteFile(filepath.Join(dir, f.Name+".txt"), []byte(text), 0o644); err != nil {
			s.Log(err)
		}
	}
	s.Logf("its timelines are in %s, the logs in %s", dir, s.dir)
}

// workload is a fleet as a manifest describes it.
type workload struct {
	Kind, Name, Engine string // Deployment, the engine's name, lightning-asr
	Replicas           int    // 1
	Slots, StreamSlots int    // 8, 0
	GPUs               int    // 1
	Nodes              string // those that it runs on alone; empty: those of all
	// Startup is the model loading, Warmup a time of slower service after it, Drain
	// the time that a pod takes to end.
	Startup, Warmup, Drain time.Duration
	Version                string // of the pod template
	HPA                    string // its name; keda-hpa- and Name
}

// fleet is a workload in the cluster, with its gateway and its ScaledObject.
type fleet struct {
	*scenario
	workload
	*timeline
	gateway *inference.Fleet
	object  string // the YAML of its ScaledObject, or HPA
}

// fleet creates a workload and waits until its replicas are ready.
func (s *scenario) fleet(w workload) *fleet {
	s.Helper()
	w.Kind, w.Engine, w.Slots = cmp.Or(w.Kind, "Deployment"), cmp.Or(w.Engine, "lightning-asr"), cmp.Or(w.Slots, 8)
	w.GPUs = cmp.Or(w.GPUs, 1)
	w.Name = cmp.Or(w.Name, w.Engine)
	f := s.newFleet(w)
	s.apply(render(workloadManifest, f.workload))
	s.wait(w.Name+" is ready", func() error {
		if n := f.gateway.Stats().Ready; n != w.Replicas {
			return fmt.Errorf("%d of %d replicas are", n, w.Replicas)
		}
		return nil
	})
	f.timeline = newTimeline(s.Context(), f)
	s.fleets = append(s.fleets, f)
	return f
}

func (s *scenario) newFleet(w workload) *fleet {
	w.HPA = cmp.Or(w.HPA, "keda-hpa-"+w.Name)
	return &fleet{scenario: s, workload: w, gateway: s.simulator.Fleet(s.namespace, w.Name)}
}

// roll gives the workload's pods another template.
func (f *fleet) roll(version string) {
	f.Helper()
	patch := fmt.Sprintf(`{"spec":{"template":{"metadata":{"annotations":{"e2e/version":%q}}}}}`, version)
	_, err := f.cluster.Kube.AppsV1().Deployments(f.namespace).Patch(f.Context(), f.Name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	require.NoError(f, err)
}

// scale applies the workload's ScaledObject, whose spec is given without its
// scaleTargetRef; $SCALER is replaced by the address of the scenario's scaler.
func (f *fleet) scale(spec string) {
	f.Helper()
	f.declare("", spec)
	f.wait("KEDA has made the HPA of "+f.Name, func() error {
		_, err := f.hpa()
		return err
	})
}

// declare applies the ScaledObject, with annotations, and does not wait.
func (f *fleet) declare(annotations, spec string) {
	f.Helper()
	f.object = f.objectOf(annotations, spec)
	f.apply(f.object)
}

// objectOf is the YAML of the workload's ScaledObject.
func (f *fleet) objectOf(annotations, spec string) string {
	return fmt.Sprintf(`apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: %[1]s
  annotations: {%[2]s}
spec:
  scaleTargetRef: {kind: %[3]s, name: %[1]s}
`, f.Name, annotations, f.Kind) + indent(strings.ReplaceAll(spec, "$SCALER", f.scaler.address()))
}

// release deletes the ScaledObject; KEDA takes the HPA with it.
func (f *fleet) release() {
	f.Helper()
	require.NoError(f, f.cluster.Delete(f.Context(), f.namespace, f.object))
	f.wait("the HPA of "+f.Name+" is gone", func() error {
		if _, err := f.hpa(); err == nil {
			return errors.New("it is there")
		}
		return nil
	})
}

func (f *fleet) hpa() (*autoscalingv2.HorizontalPodAutoscaler, error) {
	return f.informers.Autoscaling().V2().HorizontalPodAutoscalers().Lister().HorizontalPodAutoscalers(f.namespace).Get(f.HPA)
}

// load submits load in the background until the function that is returned is called.
func (f *fleet) load(l inference.Load) (stop func()) {
	ctx, cancel := context.WithCancel(f.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.Run(ctx, f.gateway)
	}()
	return func() {
		cancel()
		<-done
	}
}

// burst submits n requests that last until the scenario finishes them.
func (f *fleet) burst(n int) { f.gateway.Submit(inference.Burst(n, false)...) }

// finish ends all requests; none was lost.
func (f *fleet) finish() {
	f.Helper()
	f.note("all requests end")
	f.gateway.Finish(-1)
	f.served()
}

// served waits until all requests are done: none was lost.
func (f *fleet) served() {
	f.Helper()
	f.until("all requests are done", func(m moment) bool { return m.InFlight() == 0 })
	stats := f.gateway.Stats()
	require.Equal(f, stats.Arrived, stats.Served)
}

// remove deletes the workload, and waits until its pods are gone.
func (f *fleet) remove(ctx context.Context) {
	if f.object != "" {
		_ = f.cluster.Delete(ctx, f.namespace, f.object) // it may be gone
	}
	_ = f.cluster.Delete(ctx, f.namespace, render(workloadManifest, f.workload))
	err := controlplane.Until(ctx, patience, "the pods of "+f.Name+" are gone", func(context.Context) error {
		if n := f.gateway.Stats().Servers; n > 0 {
			return fmt.Errorf("%d are there", n)
		}
		return nil
	})
	if err != nil {
		f.Log(err)
	}
}

func indent(text string) string {
	lines := strings.Split(strings.Trim(text, "\n"), "\n")
	return "  " + strings.Join(lines, "\n  ") + "\n"
}
