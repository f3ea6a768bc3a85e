// Package kubelet does what kwok leaves to do of a kubelet's work: it tells
// which pods are ready, and runs those pods as processes that ask for it.
package kubelet

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// SetReady tells the cluster that a pod is ready, or not any more. A pod that is
// gone is no error.
func SetReady(ctx context.Context, kube kubernetes.Interface, namespace, name string, ready bool) error {
	status := map[bool]string{true: "True", false: "False"}[ready]
	patch := fmt.Sprintf(`{"status":{"conditions":[{"type":"ContainersReady","status":%q},{"type":"Ready","status":%q}]}}`, status, status)
	_, err := kube.CoreV1().Pods(namespace).Patch(ctx, name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "status")
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
