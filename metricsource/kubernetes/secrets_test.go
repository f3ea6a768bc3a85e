package kubernetes

import (
	"errors"
	"testing"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kubefake "k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

func TestSecret(t *testing.T) {
	kube := kubefake.NewClientset(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "token", Annotations: map[string]string{"a": "b"}},
		Data:       map[string][]byte{"bearerToken": []byte("x")},
	})
	c := newCluster(clients{kube: kube}, Options{})
	got, err := c.Secret(t.Context(), "ns", "token")
	require.NoError(t, err)
	require.Equal(t, cluster.Secret{Data: map[string][]byte{"bearerToken": []byte("x")}, Annotations: map[string]string{"a": "b"}}, got)
	_, err = c.Secret(t.Context(), "other", "token")
	require.ErrorIs(t, err, cluster.ErrNotFound, "of the namespace alone")

	answer := errors.New("connection refused")
	kube.PrependReactor("get", "secrets", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, answer })
	_, err = c.Secret(t.Context(), "ns", "token")
	require.ErrorIs(t, err, answer)
	require.NotErrorIs(t, err, cluster.ErrNotFound, "not known is not gone")
	answer = apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, "token", nil)
	_, err = c.Secret(t.Context(), "ns", "token")
	require.EqualError(t, err, "forbidden; grant the scaler's service account the verb get on secrets in namespace ns")
}
