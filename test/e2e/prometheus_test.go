package e2e

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/test/e2e/process"
)

var (
	//go:embed testdata/prometheus.yaml
	prometheusYAML string
	//go:embed testdata/prometheus-adapter.yaml
	adapterYAML string
	//go:embed testdata/custom-metrics.yaml
	customMetricsYAML string

	prometheusConfig = template.Must(template.New("prometheus.yaml").Parse(prometheusYAML))
	customMetrics    = template.Must(template.New("custom-metrics.yaml").Parse(customMetricsYAML))
)

const prometheusAddress = "127.0.0.1:9095"

// prometheus is a real one, which reads the fleets that its jobs are given.
type prometheus struct {
	*scenario
	dir string
}

// startPrometheus runs a Prometheus with a job for each scrape interval.
func (s *scenario) startPrometheus(intervals map[string]string) *prometheus {
	s.Helper()
	p := &prometheus{scenario: s, dir: filepath.Join(s.dir, "prometheus")}
	require.NoError(s, os.MkdirAll(p.dir, 0o750))
	config := filepath.Join(p.dir, "prometheus.yaml")
	text := render(prometheusConfig, map[string]any{"Intervals": intervals, "Dir": p.dir})
	require.NoError(s, os.WriteFile(config, []byte(text), 0o644))
	p.run(process.Command{
		Name: "prometheus", Path: os.Getenv(prometheusEnv), Log: filepath.Join(s.dir, "prometheus.log"),
		Args: []string{"--config.file=" + config, "--storage.tsdb.path=" + filepath.Join(p.dir, "data"), "--web.listen-address=" + prometheusAddress},
	})
	s.wait("Prometheus is ready", func() error { return answers("http://" + prometheusAddress + "/-/ready") })
	return p
}

// startAdapter runs the prometheus-adapter, and lets it serve custom metrics. It
// looks for series when it starts, and once a minute: there must be some.
func (p *prometheus) startAdapter() {
	p.Helper()
	config := filepath.Join(p.dir, "adapter.yaml")
	require.NoError(p, os.WriteFile(config, []byte(adapterYAML), 0o644))
	kubeconfig := p.cluster.Kubeconfig
	p.run(process.Command{
		Name: "prometheus-adapter", Path: os.Getenv(adapterEnv), Log: filepath.Join(p.scenario.dir, "prometheus-adapter.log"),
		Args: []string{
			"--config=" + config, "--prometheus-url=http://" + prometheusAddress, "--metrics-relist-interval=1m",
			"--bind-address=127.0.0.1", "--secure-port=16445", "--cert-dir=" + p.dir,
			"--lister-kubeconfig=" + kubeconfig, "--authentication-kubeconfig=" + kubeconfig, "--authorization-kubeconfig=" + kubeconfig,
		},
	})
	p.apply(render(customMetrics, map[string]string{"Namespace": p.namespace}))
	p.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = p.cluster.Delete(ctx, p.namespace, render(customMetrics, map[string]string{"Namespace": p.namespace}))
	})
	p.wait("custom metrics are served", func() error {
		text, err := p.cluster.Kube.Discovery().RESTClient().Get().
			AbsPath("/apis/custom.metrics.k8s.io/v1beta1/namespaces", p.namespace, "pods/*/asr_active_requests").DoRaw(p.Context())
		if err != nil {
			return fmt.Errorf("%w: %s", err, text)
		}
		return nil
	})
}

func (p *prometheus) run(c process.Command) {
	p.Helper()
	running, err := process.Start(c)
	require.NoError(p, err)
	p.Cleanup(func() {
		require.NoError(p, running.Unexpected())
		running.Stop(5 * time.Second)
	})
}

// reads keeps the targets of a job those of the fleet, as service discovery does,
// until the test ends.
func (p *prometheus) reads(job string, f *fleet) {
	p.Helper()
	file := filepath.Join(p.dir, job+".json")
	last := ""
	write := func() error {
		type target struct {
			Targets []string          `json:"targets"`
			Labels  map[string]string `json:"labels"`
		}
		all := []target{}
		for pod, address := range f.gateway.Addresses() {
			all = append(all, target{[]string{address}, map[string]string{"namespace": f.namespace, "deployment": f.Name, "pod": pod}})
		}
		slices.SortFunc(all, func(a, b target) int { return strings.Compare(a.Labels["pod"], b.Labels["pod"]) })
		text, err := json.Marshal(all)
		if err != nil || string(text) == last {
			return err
		}
		last = string(text)
		// Prometheus must not see half of it.
		return errors.Join(os.WriteFile(file+".new", text, 0o644), os.Rename(file+".new", file))
	}
	require.NoError(p, write())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if err := write(); err != nil {
				p.Errorf("targets of %s: %v", job, err)
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	p.Cleanup(func() {
		cancel()
		<-done
	})
}

// query is what an instant query of one element says; 0 where there is none.
func (p *prometheus) query(promql string) (float64, error) {
	resp, err := scalerClient.Get("http://" + prometheusAddress + "/api/v1/query?" + url.Values{"query": {promql}}.Encode())
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var reply struct {
		Data struct {
			Result []struct{ Value [2]any }
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&reply); err != nil || len(reply.Data.Result) == 0 {
		return 0, err
	}
	return strconv.ParseFloat(fmt.Sprint(reply.Data.Result[0].Value[1]), 64)
}

func answers(url string) error {
	resp, err := scalerClient.Get(url)
	if err != nil {
		return err
	}
	if err := resp.Body.Close(); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return nil
}
