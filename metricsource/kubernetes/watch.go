package kubernetes

import (
	"context"

	"github.com/inference-scaler/inference-scaler/metricsource/kubernetes/informer"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/dynamicinformer"
	appsinformers "k8s.io/client-go/informers/apps/v1"
	coreinformers "k8s.io/client-go/informers/core/v1"
	discoveryinformers "k8s.io/client-go/informers/discovery/v1"
	"k8s.io/client-go/tools/cache"
)

var scaledObjects = schema.GroupVersionResource{Group: "keda.sh", Version: "v1alpha1", Resource: "scaledobjects"}

// watches prepares the informers of a namespace; nothing runs yet. They keep trimmed
// objects only, and pass them to the index.
func (c *Cluster) watches(namespace string) ([]*informer.Watch, error) {
	kc, ix, none := c.clients.kube, c.index, cache.Indexers{}
	var all []*informer.Watch
	for _, k := range []informer.Kind{
		{Resource: "pods", Informer: coreinformers.NewPodInformer(kc, namespace, 0, none), Trim: trimPod, Handler: informer.Handler(ix.setPod, ix.deletePod)},
		{
			Resource: "deployments.apps", Informer: appsinformers.NewDeploymentInformer(kc, namespace, 0, none),
			Trim: trimTarget, Handler: informer.Handler(ix.setTarget, ix.deleteTarget(kindDeployment)),
		},
		{
			Resource: "statefulsets.apps", Informer: appsinformers.NewStatefulSetInformer(kc, namespace, 0, none),
			Trim: trimTarget, Handler: informer.Handler(ix.setTarget, ix.deleteTarget(kindStatefulSet)),
		},
		{
			Resource: "services", Informer: coreinformers.NewServiceInformer(kc, namespace, 0, none),
			Trim: trimService, Handler: informer.Handler(ix.setService, ix.deleteService),
		},
		{
			Resource: "endpointslices.discovery.k8s.io", Informer: discoveryinformers.NewEndpointSliceInformer(kc, namespace, 0, none),
			Trim: trimEndpointSlice, Handler: informer.Handler(ix.setEndpointSlice, ix.deleteEndpointSlice),
		},
		{
			Resource: "scaledobjects.keda.sh", Informer: dynamicinformer.NewFilteredDynamicInformer(c.clients.dynamic, scaledObjects, namespace, 0, none, nil).Informer(),
			Trim: trimScaledObject, Handler: informer.Handler(ix.setObject, ix.deleteObject),
		},
	} {
		w, err := informer.New(namespace, k, func(w *informer.Watch, err error) { w.LogError(c.log, err) })
		if err != nil {
			return nil, err
		}
		all = append(all, w)
	}
	return all, nil
}

// awaitSync marks the namespace as synced after the first listings of its resources.
func (c *Cluster) awaitSync(ctx context.Context, namespace string, watches []*informer.Watch) {
	if informer.AwaitSync(ctx, c.log, namespace, watches) {
		c.index.markSynced(namespace)
	}
}
