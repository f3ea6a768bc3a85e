package keda

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	"github.com/kedacore/keda/v2/pkg/scalers/authentication"
	"github.com/kedacore/keda/v2/pkg/scaling"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	scalefake "k8s.io/client-go/scale/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

// cluster is KEDA's scale handler over a fake API server that holds one
// Deployment and one ScaledObject, both named after the test.
type cluster struct {
	client.Client
	handler scaling.ScaleHandler
	key     client.ObjectKey
	// looked counts the times that KEDA has read the ScaledObject.
	looked atomic.Int64
	// refuse makes writes to /scale fail; refused counts those that did.
	refuse  atomic.Bool
	refused atomic.Int64
}

// timing is what a ScaledObject says about it, in seconds.
type timing struct{ polling, cooldown int32 }

// pushOnly leaves one poll, at the start.
var pushOnly = timing{polling: 3600, cooldown: 300}

// newCluster creates the objects: no replicas, minReplicaCount 0, and in the
// status the metric names that KEDA's reconciler would have put there.
func newCluster(t *testing.T, metadata trigger, tm timing, metricNames ...string) *cluster {
	t.Helper()
	c := &cluster{key: client.ObjectKey{Namespace: namespace, Name: objectName(t)}}
	scheme := runtime.NewScheme()
	require.NoError(t, clientgoscheme.AddToScheme(scheme))
	require.NoError(t, v1alpha1.AddToScheme(scheme))

	c.Client = fake.NewClientBuilder().WithScheme(scheme).
		WithObjects(deployment(c.key), scaledObject(c.key, metadata, tm, metricNames)).
		WithStatusSubresource(&v1alpha1.ScaledObject{}).
		Build()
	watched := interceptor.NewClient(c.Client.(client.WithWatch), interceptor.Funcs{
		Get: func(ctx context.Context, under client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			err := under.Get(ctx, key, obj, opts...)
			if _, ok := obj.(*v1alpha1.ScaledObject); ok {
				c.looked.Add(1)
			}
			return err
		},
	})
	c.handler = scaling.NewScaleHandler(watched, c.scales(), scheme, 3*time.Second, 3*time.Second,
		&events.FakeRecorder{}, &authentication.AuthClientSet{})
	return c
}

func deployment(key client.ObjectKey) *appsv1.Deployment {
	var none int32
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &none,
			Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "server"}}}},
		},
	}
}

func scaledObject(key client.ObjectKey, metadata trigger, tm timing, metricNames []string) *v1alpha1.ScaledObject {
	return &v1alpha1.ScaledObject{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, UID: "1", Generation: 1},
		Spec: v1alpha1.ScaledObjectSpec{
			ScaleTargetRef:  &v1alpha1.ScaleTarget{Name: key.Name},
			PollingInterval: &tm.polling,
			CooldownPeriod:  &tm.cooldown,
			Triggers:        []v1alpha1.ScaleTriggers{{Type: "external-push", Metadata: metadata}},
		},
		Status: v1alpha1.ScaledObjectStatus{
			ScaleTargetKind: "apps/v1.Deployment",
			ScaleTargetGVKR: &v1alpha1.GroupVersionKindResource{
				Group: "apps", Version: "v1", Kind: "Deployment", Resource: "deployments",
			},
			ExternalMetricNames: metricNames,
		},
	}
}

// scales reads and writes the scale subresource of the Deployment.
func (c *cluster) scales() *scalefake.FakeScaleClient {
	s := &scalefake.FakeScaleClient{}
	s.AddReactor("get", "deployments", func(clienttesting.Action) (bool, runtime.Object, error) {
		var d appsv1.Deployment
		if err := c.Get(context.Background(), c.key, &d); err != nil {
			return true, nil, err
		}
		return true, &autoscalingv1.Scale{ObjectMeta: d.ObjectMeta, Spec: autoscalingv1.ScaleSpec{Replicas: *d.Spec.Replicas}}, nil
	})
	s.AddReactor("update", "deployments", func(a clienttesting.Action) (bool, runtime.Object, error) {
		if c.refuse.Load() {
			c.refused.Add(1)
			return true, nil, errors.New("etcdserver: request timed out")
		}
		scale := a.(clienttesting.UpdateAction).GetObject().(*autoscalingv1.Scale)
		return true, scale, c.scale(scale.Spec.Replicas)
	})
	return s
}

// scale writes spec.replicas.
func (c *cluster) scale(replicas int32) error {
	var d appsv1.Deployment
	if err := c.Get(context.Background(), c.key, &d); err != nil {
		return err
	}
	d.Spec.Replicas = &replicas
	return c.Update(context.Background(), &d)
}

// replicas is spec.replicas, or -1 when it cannot be read.
func (c *cluster) replicas() int32 {
	var d appsv1.Deployment
	if err := c.Get(context.Background(), c.key, &d); err != nil {
		return -1
	}
	return *d.Spec.Replicas
}

// scaledObject is the present object, or an empty one when it cannot be read.
func (c *cluster) scaledObject() *v1alpha1.ScaledObject {
	var so v1alpha1.ScaledObject
	if err := c.Get(context.Background(), c.key, &so); err != nil {
		return &v1alpha1.ScaledObject{}
	}
	return &so
}

// handle hands the ScaledObject to KEDA until the test ends, and returns once
// KEDA has polled it for the first time and its streams are open.
func (c *cluster) handle(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	require.NoError(t, c.handler.HandleScalableObject(ctx, c.scaledObject()))
	select {
	case event := <-c.handler.MetricSpecReconcileChan():
		require.Equal(t, c.key, client.ObjectKeyFromObject(event.Object))
	case <-time.After(patience):
		require.FailNow(t, "the streamed spec did not lead to a reconcile")
	}
	require.Eventually(t, func() bool {
		active := c.scaledObject().Status.Conditions.GetActiveCondition()
		return active.Status != "" && !active.IsUnknown()
	}, patience, tick, "KEDA has not polled")
}
