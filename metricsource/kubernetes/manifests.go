package kubernetes

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// scaling are the kinds that define how workloads are scaled, and the workloads.
var scaling = []schema.GroupVersionResource{
	scaledObjects,
	{Group: groupApps, Version: "v1", Resource: "deployments"},
	{Group: groupApps, Version: "v1", Resource: "statefulsets"},
	{Group: "autoscaling", Version: "v2", Resource: "horizontalpodautoscalers"},
}

// Manifests returns the ScaledObjects, Deployments, StatefulSets and HPAs of a namespace, or
// of all if it is empty: one List of each kind, as JSON documents. The error names the kind
// that could not be listed.
func Manifests(ctx context.Context, cfg *rest.Config, namespace string) ([]byte, error) {
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	return manifests(ctx, client, namespace)
}

func manifests(ctx context.Context, client dynamic.Interface, namespace string) ([]byte, error) {
	var out bytes.Buffer
	for _, resource := range scaling {
		list, err := client.Resource(resource).Namespace(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", resource.Resource, err)
		}
		text, err := json.Marshal(list)
		if err != nil {
			return nil, err
		}
		out.WriteString("---\n")
		out.Write(text)
		out.WriteByte('\n')
	}
	return out.Bytes(), nil
}
