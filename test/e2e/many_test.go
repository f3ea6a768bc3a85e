package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/inference-scaler/inference-scaler/test/e2e/controlplane"
	"github.com/inference-scaler/inference-scaler/test/e2e/process"
)

const (
	manyObjects  = 200
	podsOfEach   = 5
	burstObjects = 20
	burstRounds  = 3
)

// 200 ScaledObjects over 1000 pods, all of them read every second, and 20 fleets
// that get a burst at the same instant. What it costs, and how long it takes, is
// printed; what is asserted is that every answer is right.
func TestManyFleets(t *testing.T) {
	s := begin(t)
	s.setSync(defaultSync)
	s.moreNodes(manyObjects * podsOfEach / gpusPerNode)
	s.alone()
	s.own(1, 0)

	fleets := s.manyFleets()
	pod := s.readyScalers(s.namespace)[0]
	scaler := s.agent.Process(pod.UID)
	s.wait("KEDA has opened all streams", func() error { return s.streamsAre(2 * manyObjects) })

	measure := s.usage(scaler, pod)
	s.pause(20 * time.Second)
	t.Logf("at rest: %d triggers over %d pods: %s", manyObjects, manyObjects*podsOfEach, measure())
	measure = s.usage(scaler, pod)

	conn, err := grpc.NewClient(s.scaler.address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	client := externalscaler.NewExternalScalerClient(conn)
	var answers, replicas []time.Duration
	for range burstRounds {
		a, r := s.burstMany(client, fleets)
		answers, replicas = append(answers, a...), append(replicas, r...)
	}
	t.Logf("while %d of them burst at once, %d times: %s", burstObjects, burstRounds, measure())
	t.Logf("from load to answer, asked every 50 ms: p50 %s, p99 %s, of %d", quantile(answers, 0.5), quantile(answers, 0.99), len(answers))
	t.Logf("from load to spec.replicas, with the HPA's default period of %s: p50 %s, p99 %s, of %d",
		defaultSync, quantile(replicas, 0.5), quantile(replicas, 0.99), len(replicas))
	for _, f := range fleets {
		require.Zero(t, f.gateway.Stats().InFlight(), f.Name)
	}
}

// manyFleets creates the fleets and their ScaledObjects, half of them vLLM, whose
// bodies are ten times as large as an ASR server's.
func (s *scenario) manyFleets() []*fleet {
	s.Helper()
	fleets := make([]*fleet, manyObjects)
	var workloads, objects strings.Builder
	for i := range fleets {
		w := workload{Kind: "Deployment", Name: fmt.Sprintf("asr-%03d", i), Engine: "lightning-asr", Replicas: podsOfEach, Slots: 64}
		if i%2 == 1 {
			w.Name, w.Engine = fmt.Sprintf("vllm-%03d", i), "vllm"
		}
		f := s.newFleet(w)
		fleets[i] = f
		workloads.WriteString("---\n" + render(workloadManifest, w))
		objects.WriteString("---\n" + f.objectOf("", quick{min: podsOfEach, max: podsOfEach + 3, triggers: push("engine: "+w.Engine, "hold: 5s")}.String()))
	}
	begun := time.Now()
	s.apply(workloads.String())
	s.wait("all pods are ready", func() error {
		for _, f := range fleets {
			if n := f.gateway.Stats().Ready; n != podsOfEach {
				return fmt.Errorf("%d of %s are", n, f.Name)
			}
		}
		return nil
	})
	s.Logf("%d pods were ready after %.0f s", manyObjects*podsOfEach, time.Since(begun).Seconds())
	s.apply(objects.String())
	s.wait("KEDA has made all HPAs", func() error {
		for _, f := range fleets {
			if _, err := f.hpa(); err != nil {
				return err
			}
		}
		return nil
	})
	return fleets
}

// alone takes the scaler of all scenarios away for the time of this one: it would
// read the same pods, and this is about what one costs.
func (s *scenario) alone() {
	s.Helper()
	shared := s.scaler
	require.NoError(s, s.installScaler(s.Context(), scalerInstall{Namespace: shared.Namespace}))
	s.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.installScaler(ctx, shared); err != nil {
			s.Error(err)
		}
	})
}

// setSync gives the HPA another sync period for the time of the scenario.
func (s *scenario) setSync(period time.Duration) {
	s.Helper()
	require.NoError(s, s.cluster.SetSync(s.Context(), period))
	s.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.cluster.SetSync(ctx, fastSync); err != nil {
			s.Error(err)
		}
	})
}

// moreNodes adds nodes for the time of the scenario, and waits in the end until
// nothing of it is left that might be in the way of the next one.
func (s *scenario) moreNodes(count int) {
	s.Helper()
	yaml := nodesYAML(nodes, count)
	require.NoError(s, s.cluster.Apply(s.Context(), "", yaml))
	s.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		err := errors.Join(
			ignoreNotFound(s.cluster.Kube.CoreV1().Namespaces().Delete(ctx, s.namespace, metav1.DeleteOptions{})),
			controlplane.Until(ctx, patience, "the namespace is gone", func(ctx context.Context) error {
				_, err := s.cluster.Kube.CoreV1().Namespaces().Get(ctx, s.namespace, metav1.GetOptions{})
				if err == nil {
					return errors.New("it is there")
				}
				return ignoreNotFound(err)
			}),
			s.cluster.Delete(ctx, "", yaml))
		if err != nil {
			s.Error(err)
		}
	})
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// usage measures what the scaler in a pod uses until the returned function is called,
// which returns the figures.
func (s *scenario) usage(scaler *process.Process, pod *corev1.Pod) func() string {
	s.Helper()
	const scrapes = `inference_scaler_scrapes_total{result="ok"}`
	read := func() (process.Usage, float64) {
		used, err := scaler.Usage()
		require.NoError(s, err)
		count, err := s.metric("http://"+pod.Status.PodIP+":8080/metrics", scrapes)
		require.NoError(s, err)
		return used, count
	}
	begun := time.Now()
	before, read1 := read()
	return func() string {
		after, read2 := read()
		took := time.Since(begun).Seconds()
		return fmt.Sprintf("%.0f readings a second, %.2f cores, %d MiB resident",
			(read2-read1)/took, (after.CPU-before.CPU).Seconds()/took, after.Resident>>20)
	}
}

// burstMany gives every tenth fleet a burst that asks for 6 replicas, all at the
// same instant. For each burst it measures the time to the answer, and to the
// replicas. It returns when the bursts are over and answered too.
func (s *scenario) burstMany(client externalscaler.ExternalScalerClient, fleets []*fleet) (answers, replicas []time.Duration) {
	s.Helper()
	const load = 27
	var mu sync.Mutex
	var g sync.WaitGroup
	begun := time.Now()
	for i := 0; i < manyObjects; i += manyObjects / burstObjects {
		f := fleets[i] // of lightning-asr: what runs is load
		f.burst(load)
		g.Go(func() {
			request := &externalscaler.GetMetricsRequest{MetricName: "x", ScaledObjectRef: &externalscaler.ScaledObjectRef{
				Namespace: f.namespace, Name: f.Name,
				ScalerMetadata: map[string]string{"scalerAddress": s.scaler.address(), "engine": f.Engine, "hold": "5s"},
			}}
			f.wait(f.Name+" is answered", func() error {
				reply, err := client.GetMetrics(s.Context(), request)
				if err != nil {
					return err
				}
				if value := reply.GetMetricValues()[0].GetMetricValueFloat(); value != load {
					return fmt.Errorf("with %v", value)
				}
				return nil
			})
			answered := time.Since(begun)
			f.wait(f.Name+" has 6 replicas", func() error {
				return f.has(6)
			})
			mu.Lock()
			defer mu.Unlock()
			answers, replicas = append(answers, answered), append(replicas, time.Since(begun))
		})
	}
	g.Wait()
	if s.Failed() {
		s.FailNow() // the failure is logged already
	}
	for _, f := range fleets {
		f.gateway.Finish(-1)
	}
	s.wait("all are as they were", func() error {
		for _, f := range fleets {
			if err := f.has(podsOfEach); err != nil {
				return err
			}
		}
		return nil
	})
	return answers, replicas
}

// has says what keeps the workload from having been given n replicas.
func (f *fleet) has(n int) error {
	now, err := f.replicas()
	if err == nil && now != n {
		err = fmt.Errorf("%s has %d replicas", f.Name, now)
	}
	return err
}

// quantile of some durations, the next larger one; to hundredths of a second.
func quantile(all []time.Duration, q float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))].Round(10 * time.Millisecond)
}
