package kubernetes

import (
	"context"
	"fmt"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Secret reads one Secret from the API server. A watch would keep all Secrets in memory, and
// would need more rights than get.
func (c *Cluster) Secret(ctx context.Context, namespace, name string) (cluster.Secret, error) {
	s, err := c.clients.kube.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return cluster.Secret{}, cluster.ErrNotFound
	case apierrors.IsForbidden(err):
		return cluster.Secret{}, fmt.Errorf("%w; grant the scaler's service account the verb get on secrets in namespace %s", cluster.ErrForbidden, namespace)
	case err != nil:
		return cluster.Secret{}, fmt.Errorf("reading it from the cluster: %w", err)
	}
	return cluster.Secret{Data: s.Data, Annotations: s.Annotations}, nil
}
