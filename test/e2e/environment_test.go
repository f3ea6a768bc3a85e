package e2e

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"

	"github.com/inference-scaler/inference-scaler/test/e2e/controlplane"
	"github.com/inference-scaler/inference-scaler/test/e2e/dns"
	"github.com/inference-scaler/inference-scaler/test/e2e/inference"
	"github.com/inference-scaler/inference-scaler/test/e2e/kubelet"
)

const (
	// fastSync is the HPA's sync period where a scenario is not about it; its
	// default is 15 s.
	fastSync    = time.Second
	defaultSync = 15 * time.Second

	nodes       = 40
	gpusPerNode = 8
)

// environment is the cluster with everything that lives in it.
type environment struct {
	dir       string
	cluster   *controlplane.Cluster
	simulator *inference.Simulator
	agent     *kubelet.Agent
	informers informers.SharedInformerFactory
	log       *slog.Logger

	cancel context.CancelFunc
	group  *errgroup.Group
}

func newEnvironment(ctx context.Context, dir string) (*environment, error) {
	begun := time.Now()
	cluster, err := controlplane.Start(ctx, controlplane.Options{
		Bin: os.Getenv(controlPlaneEnv), Dir: dir, Pods: podNetwork, NodeIP: nodeIP, Sync: fastSync,
	})
	if err != nil {
		return nil, err
	}
	file, err := os.Create(filepath.Join(dir, "e2e.log"))
	if err != nil {
		return nil, err
	}
	e := &environment{
		dir: dir, cluster: cluster,
		informers: informers.NewSharedInformerFactory(cluster.Kube, 0),
		log:       slog.New(slog.NewTextHandler(file, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	ctx, e.cancel = context.WithCancel(ctx)
	e.group, ctx = errgroup.WithContext(ctx)
	if err := e.populate(ctx); err != nil {
		return nil, errors.Join(err, e.stop())
	}
	fmt.Printf("the control plane works after %s\n", time.Since(begun).Round(time.Second/10))
	return e, nil
}

// populate brings nodes, servers, names and the scaler into the cluster.
func (e *environment) populate(ctx context.Context) error {
	e.simulator = &inference.Simulator{
		Log: e.log,
		SetReady: func(ctx context.Context, namespace, pod string) error {
			return controlplane.Until(ctx, patience, "the API server hears that "+pod+" is ready", func(ctx context.Context) error {
				return kubelet.SetReady(ctx, e.cluster.Kube, namespace, pod, true)
			})
		},
	}
	e.agent = &kubelet.Agent{
		Kube: e.cluster.Kube, Config: e.cluster.Config, Dir: e.dir, Log: e.log,
		Programs: map[string]string{"inference-scaler": os.Getenv(scalerEnv)},
	}
	pods := e.informers.Core().V1().Pods().Informer()
	if err := errors.Join(e.simulator.Watch(ctx, pods), e.agent.Watch(ctx, pods)); err != nil {
		return err
	}
	// Asking for an informer is what makes the factory start it.
	e.informers.Apps().V1().Deployments().Informer()
	e.informers.Apps().V1().StatefulSets().Informer()
	e.informers.Autoscaling().V2().HorizontalPodAutoscalers().Informer()
	e.informers.Discovery().V1().EndpointSlices().Informer()
	e.informers.Start(ctx.Done())
	for kind, synced := range e.informers.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return fmt.Errorf("the informer of %s did not synchronise", kind)
		}
	}
	e.group.Go(func() error {
		return dns.Serve(ctx, nameserver.String()+":53", e.informers.Discovery().V1().EndpointSlices().Lister())
	})
	if err := e.cluster.Apply(ctx, "", nodesYAML(0, nodes)); err != nil {
		return err
	}
	return e.installScaler(ctx, scalerInstall{Namespace: "keda", Replicas: 2})
}

// nodesYAML are GPU nodes, numbered from first.
func nodesYAML(first, count int) string {
	var all strings.Builder
	for i := first; i < first+count; i++ {
		fmt.Fprintf(&all, `---
apiVersion: v1
kind: Node
metadata:
  name: gpu-%03[1]d
  labels: {kubernetes.io/hostname: gpu-%03[1]d, kubernetes.io/os: linux, nvidia.com/gpu.product: NVIDIA-H100}
  annotations: {kwok.x-k8s.io/node: fake}
status:
  capacity: {cpu: "96", memory: 1Ti, pods: "110", nvidia.com/gpu: "%[2]d"}
  allocatable: {cpu: "96", memory: 1Ti, pods: "110", nvidia.com/gpu: "%[2]d"}
`, i, gpusPerNode)
	}
	return all.String()
}

// scalerInstall is one installation of the product.
type scalerInstall struct {
	Namespace string
	Replicas  int
	Own       bool // it looks after its own namespace alone
	// MinReady is the Deployment's minReadySeconds.
	MinReady int
}

// Tokens is the file of those that may report demand.
func (s scalerInstall) Tokens() (string, error) { return filepath.Abs("testdata/tokens") }

// address is what a trigger names.
func (s scalerInstall) address() string { return "inference-scaler." + s.Namespace + ".svc:9090" }

func (e *environment) installScaler(ctx context.Context, s scalerInstall) error {
	if err := e.cluster.Apply(ctx, s.Namespace, render(scalerManifest, s)); err != nil {
		return err
	}
	return controlplane.Until(ctx, patience, "the scaler is ready", func(context.Context) error {
		if n := len(e.readyScalers(s.Namespace)); n != s.Replicas {
			return fmt.Errorf("%d of %d are", n, s.Replicas)
		}
		return nil
	})
}

// scalers are the pods of an installation.
func (e *environment) scalers(namespace string) []*corev1.Pod {
	all, err := e.informers.Core().V1().Pods().Lister().Pods(namespace).List(labels.SelectorFromSet(labels.Set{"app": "inference-scaler"}))
	if err != nil {
		panic(err) // of a selector that cannot be
	}
	slices.SortFunc(all, func(a, b *corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func (e *environment) readyScalers(namespace string) []*corev1.Pod {
	var ready []*corev1.Pod
	for _, pod := range e.scalers(namespace) {
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue && pod.DeletionTimestamp == nil {
				ready = append(ready, pod)
			}
		}
	}
	return ready
}

func (e *environment) stop() error {
	e.cancel()
	e.agent.Wait()
	err := e.group.Wait()
	e.informers.Shutdown()
	e.cluster.Stop()
	return err
}
