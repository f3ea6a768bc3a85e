package controlplane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"github.com/inference-scaler/inference-scaler/test/e2e/process"
)

var (
	//go:embed manifests/pod-stages.yaml
	podStages string
	//go:embed manifests/external-metrics.yaml
	externalMetrics string
)

// Options of Start; all are required.
type Options struct {
	Bin  string // the folder that build.ControlPlane returned
	Dir  string // for logs, certificates and data
	Pods net.IPNet
	// NodeIP is the address that all nodes say they have.
	NodeIP net.IP
	// Sync is the HPA's --horizontal-pod-autoscaler-sync-period.
	Sync time.Duration
}

// Cluster is a control plane that runs.
type Cluster struct {
	Kube       kubernetes.Interface
	Dynamic    dynamic.Interface
	Config     *rest.Config
	Kubeconfig string // the admin's: a file
	// AuditLog has a line of JSON for each request of the service accounts of AuditedNamespace.
	AuditLog string

	opts   Options
	mapper *restmapper.DeferredDiscoveryRESTMapper
	probes *http.Client

	mu      sync.Mutex
	sync    time.Duration
	running map[string]*process.Process
	order   []string
}

// Start starts all components and returns once they work together. What fails
// leaves its logs in opts.Dir; what was started is stopped again.
func Start(ctx context.Context, opts Options) (_ *Cluster, err error) {
	c := &Cluster{
		opts: opts, sync: opts.Sync, running: map[string]*process.Process{},
		Kubeconfig: filepath.Join(opts.Dir, "kubeconfig"),
		AuditLog:   filepath.Join(opts.Dir, "audit.log"),
	}
	if err := c.prepare(); err != nil {
		return nil, err
	}
	if err := c.connect(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.Stop()
		}
	}()
	for _, component := range []string{Etcd, APIServer, ControllerManager, Scheduler, Kwok} {
		if err := c.StartComponent(ctx, component); err != nil {
			return nil, err
		}
	}
	if err := c.installKEDA(ctx); err != nil {
		return nil, fmt.Errorf("install KEDA: %w", err)
	}
	return c, nil
}

// AuditedNamespace is the one whose service accounts' requests are noted.
const AuditedNamespace = "chart-e2e"

const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - {level: Metadata, userGroups: ["system:serviceaccounts:` + AuditedNamespace + `"]}
  - {level: None}
`

// prepare writes the files that the components read.
func (c *Cluster) prepare() error {
	pki := filepath.Join(c.opts.Dir, "pki")
	if err := writeCerts(pki); err != nil {
		return fmt.Errorf("make certificates: %w", err)
	}
	nodeStages, err := os.ReadFile(filepath.Join(c.opts.Bin, "node-stages.yaml"))
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		c.Kubeconfig: kubeconfig(filepath.Join(pki, "ca.crt")),
		filepath.Join(c.opts.Dir, "scheduler.yaml"): schedulerConfig(c.Kubeconfig),
		filepath.Join(c.opts.Dir, "audit.yaml"):     auditPolicy,
		filepath.Join(c.opts.Dir, "stages.yaml"):    string(nodeStages) + "\n---\n" + podStages,
		filepath.Join(pki, "tokens.csv"):            adminToken + `,admin,admin,"system:masters"` + "\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) connect() error {
	caFile := filepath.Join(c.opts.Dir, "pki", "ca.crt")
	c.Config = &rest.Config{
		Host: apiServer, BearerToken: adminToken, TLSClientConfig: rest.TLSClientConfig{CAFile: caFile},
		QPS: -1, // the tests are bounded by what they do
	}
	var err error
	if c.Kube, err = kubernetes.NewForConfig(c.Config); err != nil {
		return err
	}
	if c.Dynamic, err = dynamic.NewForConfig(c.Config); err != nil {
		return err
	}
	c.mapper = restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(c.Kube.Discovery()))
	ca, err := os.ReadFile(caFile)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	c.probes = &http.Client{
		Timeout: 5 * time.Second,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			// The scheduler and the controller manager sign their own.
			TLSClientConfig: &tls.Config{RootCAs: roots, InsecureSkipVerify: true}, //nolint:gosec // within the sandbox
		},
	}
	return nil
}

// ready is how each component shows that it works; a nil one need not.
func (c *Cluster) ready(component string) func(context.Context) error {
	switch component {
	case Etcd:
		return c.answers(etcdClient + "/health")
	case APIServer:
		return c.answers(apiServer + "/readyz")
	case Scheduler:
		return c.answers(schedulerProbe)
	case KedaOperator:
		return func(ctx context.Context) error {
			return errors.Join(c.answers(operatorProbe)(ctx), listens(ctx, operatorGRPC))
		}
	case KedaAdapter:
		return func(ctx context.Context) error { return listens(ctx, adapterAddress) }
	case ControllerManager:
		return func(ctx context.Context) error {
			// It works once it has made the default service account.
			_, err := c.Kube.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
			return errors.Join(err, c.answers(managerProbe)(ctx))
		}
	}
	return func(context.Context) error { return nil }
}

// StartComponent starts a component and waits until it works.
func (c *Cluster) StartComponent(ctx context.Context, name string) error {
	p, err := process.Start(c.commands()[name])
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.running[name] = p
	c.order = append(slices.DeleteFunc(c.order, func(s string) bool { return s == name }), name)
	c.mu.Unlock()
	ready := c.ready(name)
	return Until(ctx, patience, name+" works", func(ctx context.Context) error {
		if err := p.Unexpected(); err != nil {
			return Final(err)
		}
		return ready(ctx)
	})
}

// Component is the component's process.
func (c *Cluster) Component(name string) *process.Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.running[name]
}

// SetSync gives the HPA another sync period: its controller is started anew.
func (c *Cluster) SetSync(ctx context.Context, sync time.Duration) error {
	if sync == c.sync {
		return nil
	}
	c.sync = sync
	c.Component(ControllerManager).Stop(10 * time.Second)
	return c.StartComponent(ctx, ControllerManager)
}

// Stop ends all components, the last one first.
func (c *Cluster) Stop() {
	for _, name := range slices.Backward(c.order) {
		c.Component(name).Stop(5 * time.Second)
	}
}

// Unexpected names the components that have ended without being stopped.
func (c *Cluster) Unexpected() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, p := range c.running {
		errs = append(errs, p.Unexpected())
	}
	return errors.Join(errs...)
}

func (c *Cluster) installKEDA(ctx context.Context) error {
	crds, err := os.ReadFile(filepath.Join(c.opts.Bin, "keda-crds.yaml"))
	if err != nil {
		return err
	}
	if err := c.Apply(ctx, "", "apiVersion: v1\nkind: Namespace\nmetadata: {name: keda}\n---\n"+string(crds)); err != nil {
		return err
	}
	if err := Until(ctx, patience, "KEDA's CRDs are served", c.answers(apiServer+"/apis/keda.sh/v1alpha1")); err != nil {
		return err
	}
	for _, component := range []string{KedaOperator, KedaAdapter} {
		if err := c.StartComponent(ctx, component); err != nil {
			return err
		}
	}
	// Not before the adapter listens: the aggregator's next look would be long after.
	ca, err := os.ReadFile(filepath.Join(c.opts.Dir, "pki", "ca.crt"))
	if err != nil {
		return err
	}
	if err := c.Apply(ctx, "", strings.ReplaceAll(externalMetrics, "CA_BUNDLE", base64.StdEncoding.EncodeToString(ca))); err != nil {
		return err
	}
	return Until(ctx, patience, "external metrics are served", c.answers(apiServer+"/apis/external.metrics.k8s.io/v1beta1"))
}

func (c *Cluster) answers(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+adminToken)
		resp, err := c.probes.Do(req)
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
}

func listens(ctx context.Context, address string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}
