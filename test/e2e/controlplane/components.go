package controlplane

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/inference-scaler/inference-scaler/test/e2e/process"
)

// The components, in the order in which they are started; stopped the other way
// round.
const (
	Etcd              = "etcd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
	Kwok              = "kwok"
	KedaOperator      = "keda-operator"
	KedaAdapter       = "keda-adapter"
)

// Where they listen: the sandbox has loopback to itself.
const (
	etcdClient     = "http://127.0.0.1:2379"
	etcdPeer       = "http://127.0.0.1:2380"
	apiServer      = "https://127.0.0.1:6443"
	schedulerProbe = "https://127.0.0.1:10259/healthz"
	managerProbe   = "https://127.0.0.1:10257/healthz"
	operatorProbe  = "http://127.0.0.1:18081/readyz"
	operatorGRPC   = "127.0.0.1:19666"
	adapterAddress = "127.0.0.1:16444"
	// OperatorMetrics is the URL of the KEDA operator's metrics.
	OperatorMetrics = "http://127.0.0.1:18080/metrics"
)

// commands are how the components are started, by their names.
func (c *Cluster) commands() map[string]process.Command {
	pki := func(name string) string { return filepath.Join(c.opts.Dir, "pki", name) }
	kubeconfigs := func(flags ...string) []string {
		for i, f := range flags {
			flags[i] = "--" + f + "=" + c.Kubeconfig
		}
		return flags
	}
	all := map[string]process.Command{}
	add := func(name, binary string, args ...[]string) {
		command := process.Command{
			Name: name,
			Path: filepath.Join(c.opts.Bin, binary),
			Env:  []string{"KUBECONFIG=" + c.Kubeconfig},
			Log:  filepath.Join(c.opts.Dir, name+".log"),
		}
		if binary == "kube" {
			command.Args = []string{name}
		}
		for _, a := range args {
			command.Args = append(command.Args, a...)
		}
		all[name] = command
	}
	add(Etcd, "kube", []string{
		"--name=e2e", "--data-dir=" + filepath.Join(c.opts.Dir, "etcd"), "--log-level=warn",
		"--listen-client-urls=" + etcdClient, "--advertise-client-urls=" + etcdClient,
		"--listen-peer-urls=" + etcdPeer, "--initial-advertise-peer-urls=" + etcdPeer, "--initial-cluster=e2e=" + etcdPeer,
		"--unsafe-no-fsync", // nothing of this cluster outlives a power cut, or the run
	})
	add(APIServer, "kube", []string{
		"--etcd-servers=" + etcdClient, "--bind-address=127.0.0.1", "--secure-port=6443", "--advertise-address=127.0.0.1",
		"--endpoint-reconciler-type=none", // an EndpointSlice cannot hold a loopback address
		"--service-cluster-ip-range=10.96.0.0/16", "--authorization-mode=RBAC", "--anonymous-auth=false",
		"--token-auth-file=" + pki("tokens.csv"), "--client-ca-file=" + pki("ca.crt"),
		"--tls-cert-file=" + pki("apiserver.crt"), "--tls-private-key-file=" + pki("apiserver.key"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + pki("tokens.pub"), "--service-account-signing-key-file=" + pki("tokens.key"),
		"--requestheader-client-ca-file=" + pki("front-proxy-ca.crt"), "--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + pki("front-proxy.crt"), "--proxy-client-key-file=" + pki("front-proxy.key"),
		"--audit-policy-file=" + filepath.Join(c.opts.Dir, "audit.yaml"), "--audit-log-path=" + c.AuditLog,
	})
	add(ControllerManager, "kube", []string{
		"--bind-address=127.0.0.1", "--leader-elect=false", "--use-service-account-credentials=true",
		"--root-ca-file=" + pki("ca.crt"), "--service-account-private-key-file=" + pki("tokens.key"),
		"--horizontal-pod-autoscaler-sync-period=" + c.sync.String(),
		"--horizontal-pod-autoscaler-initial-readiness-delay=0s",
		"--node-monitor-grace-period=120s", // a busy machine is no reason to evict
		"--kube-api-qps=500", "--kube-api-burst=1000", "-v=2",
	}, kubeconfigs("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"))
	add(Scheduler, "kube", []string{
		"--bind-address=127.0.0.1", "--config=" + filepath.Join(c.opts.Dir, "scheduler.yaml"), "-v=2",
	}, kubeconfigs("authentication-kubeconfig", "authorization-kubeconfig"))
	add(Kwok, "kwok", []string{
		"--config=" + filepath.Join(c.opts.Dir, "stages.yaml"), "--manage-all-nodes=true",
		"--cidr=" + c.opts.Pods.String(), "--node-ip=" + c.opts.NodeIP.String(), "--node-lease-duration-seconds=80",
	}, kubeconfigs("kubeconfig"))
	add(KedaOperator, "operator", []string{
		"--metrics-bind-address=127.0.0.1:18080", "--health-probe-bind-address=127.0.0.1:18081",
		"--metrics-service-bind-address=" + operatorGRPC,
		"--cert-dir=" + pki("keda"), "--enable-cert-rotation=false",
		"--kube-api-qps=200", "--kube-api-burst=400",
		"--zap-encoder=console", "--zap-time-encoding=rfc3339nano",
	})
	add(KedaAdapter, "keda-adapter", []string{
		"--bind-address=127.0.0.1", "--secure-port=16444", "--metrics-service-address=localhost:19666",
		"--client-ca-file=" + pki("ca.crt"), "--tls-cert-file=" + pki("keda/tls.crt"), "--tls-private-key-file=" + pki("keda/tls.key"),
		"--cert-dir=" + pki("keda"),
	}, kubeconfigs("authentication-kubeconfig", "authorization-kubeconfig", "lister-kubeconfig"))
	operator := all[KedaOperator]
	operator.Env = append(operator.Env, "POD_NAMESPACE=keda", "WATCH_NAMESPACE=", "KEDA_HTTP_DEFAULT_TIMEOUT=3000", "KEDA_CLUSTER_OBJECT_NAMESPACE=keda")
	all[KedaOperator] = operator
	return all
}

// kubeconfig is the admin's, for the components and the tests.
func kubeconfig(ca string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: e2e, cluster: {server: %q, certificate-authority: %q}}]
users: [{name: admin, user: {token: %q}}]
contexts: [{name: e2e, context: {cluster: e2e, user: admin}}]
current-context: e2e
`, apiServer, ca, adminToken)
}

// adminToken opens a cluster that only this sandbox can reach.
const adminToken = "e2e-admin"

func schedulerConfig(kubeconfig string) string {
	return fmt.Sprintf(`apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
clientConnection: {kubeconfig: %q, qps: 500, burst: 1000}
leaderElection: {leaderElect: false}
podInitialBackoffSeconds: 1
podMaxBackoffSeconds: 2
`, kubeconfig)
}

// patience bounds every wait for a component: it only ends a hang.
const patience = 3 * time.Minute
