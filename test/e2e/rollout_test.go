package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/inference-scaler/inference-scaler/test/e2e/controlplane"
)

// Two replicas of the scaler behind one name, rolled one after the other: no call
// is refused, and KEDA's streams are back at once.
func TestScalerRollout(t *testing.T) {
	t.Parallel()
	s := begin(t)
	// gRPC asks for a name anew once in 30 s at most: a new replica must have been
	// there for that long before the next old one goes.
	s.own(2, 35)
	f := s.busy()
	s.wait("KEDA has opened its streams", func() error { return s.streamsAre(2) })

	settle := f.unmoved()
	calls := f.call()
	watch, stop := context.WithCancel(t.Context())
	gaps := s.streamGaps(watch, 2)
	begun := time.Now()
	old := map[types.UID]bool{}
	for _, pod := range s.scalers(s.namespace) {
		old[pod.UID] = true
	}
	patch := fmt.Sprintf(`{"spec":{"template":{"metadata":{"annotations":{"e2e/rolled":%q}}}}}`, begun)
	_, err := s.cluster.Kube.AppsV1().Deployments(s.namespace).Patch(t.Context(), "inference-scaler", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	require.NoError(t, err)
	s.wait("both replicas are new", func() error {
		for _, pod := range s.scalers(s.namespace) {
			if old[pod.UID] {
				return fmt.Errorf("%s is there", pod.Name)
			}
		}
		return nil
	})
	s.wait("KEDA's streams are open", func() error { return s.streamsAre(2) })
	f.figure("rolled in %.0f s", time.Since(begun).Seconds())
	s.pause(5 * time.Second)
	stop()
	longest := <-gaps
	f.figure("KEDA's streams were back within %.1f s", longest.Seconds())
	// After an error, and not a clean end, KEDA would wait for half a minute.
	require.Less(t, longest, 20*time.Second)
	require.Zero(t, s.kedaErrors(), "errors that KEDA has counted")
	made, failed := calls()
	require.NoError(t, failed)
	f.figure("%d calls, none refused", made)
	settle()
	f.grows(12, 8)
	f.finish()
}

// call makes the calls that KEDA makes, over the name that KEDA uses, every 20 ms,
// until stop is called. stop returns the number of calls, and the error of the first
// that failed.
func (f *fleet) call() (stop func() (made int64, failed error)) {
	f.Helper()
	conn, err := grpc.NewClient(f.scaler.address(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin":{}}]}`))
	require.NoError(f, err)
	client := externalscaler.NewExternalScalerClient(conn)
	ref := &externalscaler.ScaledObjectRef{Namespace: f.namespace, Name: f.Name, ScalerMetadata: map[string]string{
		"scalerAddress": f.scaler.address(), "engine": "lightning-asr", "hold": "5s",
	}}
	ctx, cancel := context.WithCancel(f.Context())
	var made atomic.Int64
	ended := make(chan error, 1)
	go func() {
		for {
			_, err := client.GetMetrics(ctx, &externalscaler.GetMetricsRequest{ScaledObjectRef: ref, MetricName: "x"})
			if err == nil {
				_, err = client.IsActive(ctx, ref)
			}
			switch {
			case ctx.Err() != nil:
				ended <- nil
				return
			case err != nil:
				ended <- err
				return
			}
			made.Add(2)
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return func() (int64, error) {
		cancel()
		err := <-ended
		_ = conn.Close()
		return made.Load(), err
	}
}

// streams is how many KEDA holds open, over all replicas of the scaler that run.
func (s *scenario) streams() int {
	sum := 0
	for _, pod := range s.scalers(s.namespace) {
		if n, err := s.metric("http://"+pod.Status.PodIP+":8080/metrics", "inference_scaler_streams"); err == nil {
			sum += int(n)
		}
	}
	return sum
}

// kedaErrors is how many errors the KEDA operator has counted in the scenario's namespace.
func (s *scenario) kedaErrors() int {
	s.Helper()
	sum := 0
	err := s.samples(controlplane.OperatorMetrics, func(series string, value float64) {
		name, labels, _ := strings.Cut(series, "{")
		if (name == "keda_scaler_detail_errors_total" || name == "keda_scaled_object_errors_total") &&
			strings.Contains(labels, fmt.Sprintf("namespace=%q", s.namespace)) {
			sum += int(value)
		}
	})
	require.NoError(s, err)
	return sum
}

func (s *scenario) streamsAre(n int) error {
	if open := s.streams(); open != n {
		return fmt.Errorf("%d are open, not %d", open, n)
	}
	return nil
}

// streamGaps looks for times with fewer than n streams, and sends the longest when
// ctx is done.
func (s *scenario) streamGaps(ctx context.Context, n int) <-chan time.Duration {
	result := make(chan time.Duration, 1)
	go func() {
		longest, since := time.Duration(0), time.Now()
		for ctx.Err() == nil {
			if s.streams() >= n {
				since = time.Now()
			}
			longest = max(longest, time.Since(since))
			select {
			case <-ctx.Done():
			case <-time.After(lookEvery):
			}
		}
		result <- longest
	}()
	return result
}

// metric reads a sample of a /metrics, by its name and labels as they are written there.
func (s *scenario) metric(url, wanted string) (value float64, err error) {
	found := false
	err = s.samples(url, func(series string, v float64) {
		if series == wanted {
			value, found = v, true
		}
	})
	if err == nil && !found {
		err = fmt.Errorf("%s: no %s", url, wanted)
	}
	return value, err
}

// samples calls f with all samples of a /metrics.
func (s *scenario) samples(url string, f func(series string, value float64)) error {
	req, err := http.NewRequestWithContext(s.Context(), http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := scalerClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		i := strings.LastIndexByte(lines.Text(), ' ')
		if i < 0 || strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		value, err := strconv.ParseFloat(lines.Text()[i+1:], 64)
		if err != nil {
			return err
		}
		f(lines.Text()[:i], value)
	}
	return lines.Err()
}
