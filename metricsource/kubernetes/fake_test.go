package kubernetes

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/inference-scaler/inference-scaler/metricsource/kubernetes/logtest"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	kubefake "k8s.io/client-go/kubernetes/fake"
	scalefake "k8s.io/client-go/scale/fake"
)

// fixture is a Cluster over client-go's fakes. It lives in a synctest bubble:
// after settle everything has been seen that was going to be seen.
type fixture struct {
	t       *testing.T
	kube    *kubefake.Clientset
	dynamic *dynamicfake.FakeDynamicClient
	scales  *scalefake.FakeScaleClient
	mapper  *fakeMapper
	log     *logtest.Buffer
	cluster *Cluster

	mu      sync.Mutex
	changed []string
}

func newFixture(t *testing.T, opts Options, objects ...runtime.Object) *fixture {
	cl := newFakeClients(objects...)
	f := &fixture{
		t:       t,
		kube:    cl.kube.(*kubefake.Clientset),
		dynamic: cl.dynamic.(*dynamicfake.FakeDynamicClient),
		scales:  cl.scales.(*scalefake.FakeScaleClient),
		mapper:  cl.mapper.(*fakeMapper),
		log:     &logtest.Buffer{},
	}
	opts.Logger = slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelInfo}))
	f.cluster = newCluster(cl, opts)
	return f
}

func newFakeClients(objects ...runtime.Object) clients {
	var typed, sos []runtime.Object
	for _, o := range objects {
		if _, ok := o.(*unstructured.Unstructured); ok {
			sos = append(sos, o)
		} else {
			typed = append(typed, o)
		}
	}
	return clients{
		kube: kubefake.NewSimpleClientset(typed...),
		dynamic: dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
			scaledObjects: "ScaledObjectList",
			{Group: "karpenter.sh", Version: "v1", Resource: "nodepools"}: "NodePoolList",
		}, sos...),
		scales: &scalefake.FakeScaleClient{},
		mapper: newFakeMapper(),
	}
}

// run starts the Cluster and lets it settle; it ends with the test.
func (f *fixture) run() *fixture {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.cluster.Run(ctx, f.onChange, func() {}) }()
	f.t.Cleanup(func() {
		cancel()
		require.NoError(f.t, <-done)
	})
	synctest.Wait()
	return f
}

func (f *fixture) onChange(ns, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changed = append(f.changed, ns+"/"+name)
}

// settle waits, and returns whom onChange named since the last time, once each.
func (f *fixture) settle() []string {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	got := f.changed
	f.changed = nil
	slices.Sort(got)
	return slices.Compact(got)
}

var background = context.Background()

func (f *fixture) apply(o runtime.Object) {
	f.t.Helper()
	var err error
	switch o := o.(type) {
	case *corev1.Pod:
		if _, err = f.kube.CoreV1().Pods(o.Namespace).Update(background, o, metav1.UpdateOptions{}); err != nil {
			_, err = f.kube.CoreV1().Pods(o.Namespace).Create(background, o, metav1.CreateOptions{})
		}
	case *appsv1.Deployment:
		if _, err = f.kube.AppsV1().Deployments(o.Namespace).Update(background, o, metav1.UpdateOptions{}); err != nil {
			_, err = f.kube.AppsV1().Deployments(o.Namespace).Create(background, o, metav1.CreateOptions{})
		}
	case *unstructured.Unstructured:
		c := f.dynamic.Resource(scaledObjects).Namespace(o.GetNamespace())
		if _, err = c.Update(background, o, metav1.UpdateOptions{}); err != nil {
			_, err = c.Create(background, o, metav1.CreateOptions{})
		}
	}
	require.NoError(f.t, err)
}

func (f *fixture) podNames(ns, so string) []string {
	f.t.Helper()
	w, err := f.cluster.Workload(ns, so)
	require.NoError(f.t, err)
	names := []string{}
	for _, p := range w.Pods {
		names = append(names, p.Name)
	}
	return names
}

func newPod(ns, name string, labels map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, UID: types.UID("uid-" + name), Labels: labels},
		Status:     corev1.PodStatus{Phase: corev1.PodPending},
	}
}

func newDeployment(ns, name string, replicas int32, selector map[string]string) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name},
		Spec:       appsv1.DeploymentSpec{Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: selector}},
	}
}

// newObject makes a ScaledObject with one external-push trigger.
func newObject(ns, name string, target map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
		"metadata": map[string]any{"namespace": ns, "name": name, "uid": "uid-" + name},
		"spec": map[string]any{
			"scaleTargetRef": target,
			"triggers":       []any{map[string]any{"type": "external-push", "metadata": map[string]any{"engine": "vllm"}}},
		},
	}}
}

func named(name string) map[string]any { return map[string]any{"name": name} }

func app(name string) map[string]string { return map[string]string{"app": name} }

// fakeMapper knows no kind until learn; what it learned shows after a reset.
type fakeMapper struct {
	mu      sync.Mutex
	current *meta.DefaultRESTMapper
	coming  []schema.GroupVersionKind
	resets  int
	meta.RESTMapper
}

func newFakeMapper() *fakeMapper { return &fakeMapper{current: meta.NewDefaultRESTMapper(nil)} }

func (m *fakeMapper) learn(gvk schema.GroupVersionKind) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.coming = append(m.coming, gvk)
}

func (m *fakeMapper) Reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.resets++
	for _, gvk := range m.coming {
		m.current.Add(gvk, meta.RESTScopeNamespace)
	}
}

func (m *fakeMapper) resetCount() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.resets
}

func (m *fakeMapper) RESTMapping(gk schema.GroupKind, versions ...string) (*meta.RESTMapping, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.current.RESTMapping(gk, versions...)
}
