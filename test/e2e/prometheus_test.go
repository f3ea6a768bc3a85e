package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net"
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
	"golang.org/x/crypto/bcrypt"

	"github.com/inference-scaler/inference-scaler/test/e2e/controlplane"
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

// prometheus is a real one, which reads what its jobs are given.
type prometheus struct {
	*scenario
	dir, url string
	client   *http.Client
}

// startPrometheus runs a Prometheus with a job for each scrape interval.
func (s *scenario) startPrometheus(intervals map[string]string) *prometheus {
	s.Helper()
	return s.newPrometheus("http").start(intervals)
}

func (s *scenario) newPrometheus(scheme string) *prometheus {
	s.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(s, err)
	p := &prometheus{
		scenario: s, dir: filepath.Join(s.dir, "prometheus-"+s.namespace),
		url: scheme + "://" + free.Addr().String(), client: scalerClient,
	}
	require.NoError(s, free.Close())
	require.NoError(s, os.MkdirAll(p.dir, 0o750))
	return p
}

func (p *prometheus) start(intervals map[string]string, args ...string) *prometheus {
	p.Helper()
	config := filepath.Join(p.dir, "prometheus.yaml")
	text := render(prometheusConfig, map[string]any{"Intervals": intervals, "Dir": p.dir})
	require.NoError(p, os.WriteFile(config, []byte(text), 0o644))
	_, address, _ := strings.Cut(p.url, "://")
	p.run(process.Command{
		Name: "prometheus", Path: os.Getenv(prometheusEnv), Log: filepath.Join(p.dir, "prometheus.log"),
		Args: append(args, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(p.dir, "data"), "--web.listen-address="+address),
	})
	p.wait("Prometheus is ready", func() error { return p.ready() })
	return p
}

// startSecure runs one that speaks TLS, and refuses requests without the password.
// It returns the certificate of its CA.
func (s *scenario) startSecure(intervals map[string]string, user, password string) (p *prometheus, ca []byte) {
	s.Helper()
	p = s.newPrometheus("https")
	authority, err := controlplane.NewAuthority(p.dir, "ca")
	require.NoError(s, err)
	require.NoError(s, authority.Issue("prometheus", "prometheus", "127.0.0.1"))
	ca, err = os.ReadFile(filepath.Join(p.dir, "ca.crt"))
	require.NoError(s, err)
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	require.NoError(s, err)
	web := filepath.Join(p.dir, "web.yaml")
	require.NoError(s, os.WriteFile(web, fmt.Appendf(nil, "tls_server_config: {cert_file: prometheus.crt, key_file: prometheus.key}\nbasic_auth_users: {%s: %q}\n", user, hash), 0o600))
	roots := x509.NewCertPool()
	require.True(s, roots.AppendCertsFromPEM(ca))
	p.client = &http.Client{Timeout: scalerClient.Timeout, Transport: basicAuth{user, password, &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}}
	return p.start(intervals, "--web.config.file="+web), ca
}

type basicAuth struct {
	user, password string
	next           http.RoundTripper
}

func (b basicAuth) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.SetBasicAuth(b.user, b.password)
	return b.next.RoundTrip(req)
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
			"--config=" + config, "--prometheus-url=" + p.url, "--metrics-relist-interval=1m",
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
	p.discovers(job, f, f.gateway.Addresses)
}

// discovers is that for any addresses, by the pod that they are of.
func (p *prometheus) discovers(job string, f *fleet, addresses func() map[string]string) {
	p.Helper()
	file := filepath.Join(p.dir, job+".json")
	last := ""
	write := func() error {
		type target struct {
			Targets []string          `json:"targets"`
			Labels  map[string]string `json:"labels"`
		}
		all := []target{}
		for pod, address := range addresses() {
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
	resp, err := p.client.Get(p.url + "/api/v1/query?" + url.Values{"query": {promql}}.Encode())
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

func (p *prometheus) ready() error {
	resp, err := p.client.Get(p.url + "/-/ready")
	if err != nil {
		return err
	}
	if err := resp.Body.Close(); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}
