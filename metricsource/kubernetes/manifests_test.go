package kubernetes

import (
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
)

func TestManifests(t *testing.T) {
	kinds := map[schema.GroupVersionResource]string{}
	for _, resource := range scaling {
		kinds[resource] = "List"
	}
	object := func(apiVersion, kind, namespace string) runtime.Object {
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": apiVersion, "kind": kind, "metadata": map[string]any{"name": "asr", "namespace": namespace},
		}}
	}
	client := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), kinds,
		object("keda.sh/v1alpha1", "ScaledObject", "ns"), object("apps/v1", "Deployment", "ns"), object("apps/v1", "Deployment", "other"))
	text, err := manifests(background, client, "ns")
	require.NoError(t, err)
	require.Contains(t, string(text), `"kind":"ScaledObject"`)
	require.Contains(t, string(text), `"kind":"Deployment"`)
	require.NotContains(t, string(text), "other")
	text, err = manifests(background, client, "")
	require.NoError(t, err)
	require.Contains(t, string(text), "other")
}
