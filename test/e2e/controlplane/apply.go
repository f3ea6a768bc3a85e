package controlplane

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
)

// Apply applies the objects of a YAML text on the server's side, in their order,
// as `kubectl apply --server-side` does; the namespace is that of the objects
// that name none.
func (c *Cluster) Apply(ctx context.Context, namespace, text string) error {
	return c.each(text, namespace, func(r dynamic.ResourceInterface, o *unstructured.Unstructured) error {
		_, err := r.Apply(ctx, o.GetName(), o, metav1.ApplyOptions{FieldManager: "e2e", Force: true})
		return err
	})
}

// Try has the API server check the objects of a YAML text strictly, as an apply would,
// and changes nothing; groups that the cluster does not know are left out.
func (c *Cluster) Try(ctx context.Context, namespace, text string, unknown ...string) error {
	force := true
	return c.each(text, namespace, func(r dynamic.ResourceInterface, o *unstructured.Unstructured) error {
		data, err := o.MarshalJSON()
		if err != nil {
			return err
		}
		_, err = r.Patch(ctx, o.GetName(), types.ApplyPatchType, data, metav1.PatchOptions{
			FieldManager: "e2e-try", Force: &force, DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict,
		})
		return err
	}, unknown...)
}

// Delete deletes the objects of a YAML text, and does not wait for their end.
func (c *Cluster) Delete(ctx context.Context, namespace, text string) error {
	return c.each(text, namespace, func(r dynamic.ResourceInterface, o *unstructured.Unstructured) error {
		return r.Delete(ctx, o.GetName(), metav1.DeleteOptions{})
	})
}

func (c *Cluster) each(text, namespace string, do func(dynamic.ResourceInterface, *unstructured.Unstructured) error, unknown ...string) error {
	docs := yaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096)
	for {
		o := &unstructured.Unstructured{}
		if err := docs.Decode(&o.Object); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("%w in:\n%s", err, text)
		}
		if len(o.Object) == 0 {
			continue // nothing between two separators
		}
		if slices.Contains(unknown, o.GroupVersionKind().Group) {
			continue
		}
		r, err := c.resource(o.GroupVersionKind(), cmp.Or(o.GetNamespace(), namespace))
		if err != nil {
			return err
		}
		if err := do(r, o); err != nil {
			return fmt.Errorf("%s %s: %w", o.GetKind(), o.GetName(), err)
		}
	}
}

func (c *Cluster) resource(kind schema.GroupVersionKind, namespace string) (dynamic.ResourceInterface, error) {
	mapping, err := c.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if meta.IsNoMatchError(err) {
		c.mapper.Reset() // it may be new
		mapping, err = c.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	}
	if err != nil {
		return nil, err
	}
	if mapping.Scope.Name() == meta.RESTScopeNameRoot {
		return c.Dynamic.Resource(mapping.Resource), nil
	}
	return c.Dynamic.Resource(mapping.Resource).Namespace(namespace), nil
}
