package e2e

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/inference-scaler/inference-scaler/test/e2e/controlplane"
)

// chartRenderings are what test/chart holds the chart to.
const chartRenderings = "../chart/testdata/"

// The API server takes every rendering of the chart, strictly: what is of KEDA too, whose
// CRDs are there.
func TestChartRenderings(t *testing.T) {
	t.Parallel()
	s := begin(t)
	s.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: llm}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: chart-e2e}\n")
	files, err := filepath.Glob(chartRenderings + "*.yaml")
	require.NoError(t, err)
	require.Greater(t, len(files), 4)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		// In KEDA's namespace there is another one of this name.
		elsewhere := strings.ReplaceAll(string(text), "namespace: keda\n", "namespace: "+s.namespace+"\n")
		require.NoError(t, s.cluster.Try(t.Context(), s.namespace, elsewhere, "monitoring.coreos.com", "cert-manager.io"), file)
	}
}

// The API server takes every example, strictly.
func TestExamples(t *testing.T) {
	t.Parallel()
	s := begin(t)
	files, err := filepath.Glob("../../examples/*/*.yaml")
	require.NoError(t, err)
	require.Greater(t, len(files), 8)
	named := regexp.MustCompile(`(?m)^  namespace: (\S+)$`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, m := range named.FindAllStringSubmatch(string(text), -1) {
			s.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: " + m[1] + "}\n")
		}
		require.NoError(t, s.cluster.Try(t.Context(), s.namespace, string(text)), file)
	}
}

const (
	chartNamespace = controlplane.AuditedNamespace
	chartHost      = "chart-inference-scaler.chart-e2e.svc"
)

// chart is an installation of the chart, from one of its renderings. It watches all
// namespaces, and records events about the ScaledObjects of other scenarios: scenarios
// with a chart run alone.
type chart struct {
	*scenario
	pods []corev1.Pod
	// Of the CA that the scaler's certificate and KEDA's are of.
	authority *controlplane.Authority
	dir       string
}

// install applies the rendering, and waits until its two replicas are ready.
func (s *scenario) install(rendering string) *chart {
	s.Helper()
	c := &chart{scenario: s, dir: s.TempDir()}
	var err error
	c.authority, err = controlplane.NewAuthority(c.dir, "ca")
	require.NoError(s, err)
	require.NoError(s, c.authority.Issue("server", "scaler", chartHost))
	require.NoError(s, c.authority.Issue("keda", "keda-operator", "keda-operator"))
	text, err := os.ReadFile(chartRenderings + rendering)
	require.NoError(s, err)
	s.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: " + chartNamespace + "}\n")
	s.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = s.cluster.Delete(ctx, chartNamespace, string(text))
		_ = s.cluster.Kube.CoreV1().Secrets(chartNamespace).Delete(ctx, "scaler-tls", metav1.DeleteOptions{})
	})
	c.secret(chartNamespace, "scaler-tls", "server")
	require.NoError(s, s.cluster.Apply(s.Context(), chartNamespace, string(text)))
	s.wait("the chart's scaler is ready", func() error {
		d, err := s.cluster.Kube.AppsV1().Deployments(chartNamespace).Get(s.Context(), "chart-inference-scaler", metav1.GetOptions{})
		if err != nil || d.Status.ReadyReplicas != 2 {
			return fmt.Errorf("%d of 2 replicas are: %w", d.Status.ReadyReplicas, err)
		}
		list, err := s.cluster.Kube.CoreV1().Pods(chartNamespace).List(s.Context(), metav1.ListOptions{})
		if err != nil || len(list.Items) != 2 {
			return fmt.Errorf("%d pods: %w", len(list.Items), err)
		}
		c.pods = list.Items
		return nil
	})
	s.scaler = scalerInstall{Namespace: chartNamespace}
	return c
}

func (c *chart) read(name string) []byte {
	data, err := os.ReadFile(filepath.Join(c.dir, name))
	require.NoError(c, err)
	return data
}

// secret makes a Secret of the certificate that was issued to a name.
func (c *chart) secret(namespace, name, of string) {
	c.Helper()
	_, err := c.cluster.Kube.CoreV1().Secrets(namespace).Create(c.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Data:       map[string][]byte{"ca.crt": c.read("ca.crt"), "tls.crt": c.read(of + ".crt"), "tls.key": c.read(of + ".key")},
	}, metav1.CreateOptions{})
	require.NoError(c, err)
}

// allowed checks that no replica was ever refused what it wanted to read or do.
func (c *chart) allowed() {
	c.Helper()
	for _, pod := range c.pods {
		text, err := os.ReadFile(filepath.Join(c.environment.dir, chartNamespace+"_"+pod.Name+".log"))
		require.NoError(c, err)
		require.NotContains(c, string(text), "not allowed", pod.Name)
		require.NotContains(c, string(text), "level=ERROR", pod.Name)
	}
}

// The chart's own installation works with the rights that it grants, and no others. KEDA
// calls it over mutual TLS. It limits the replicas to the GPUs, and records that in an
// event. A caller without a certificate is refused, and a renewed one drops nothing.
func TestChartWithMutualTLS(t *testing.T) {
	s := begin(t)
	c := s.install("e2e.yaml")
	address := c.pods[0].Status.PodIP
	require.Error(t, plaintext(t.Context(), address), "plaintext")
	require.Error(t, handshake(address, &tls.Config{InsecureSkipVerify: true}), "no certificate")
	own, err := tls.X509KeyPair(c.read("keda.crt"), c.read("keda.key"))
	require.NoError(t, err)
	require.NoError(t, handshake(address, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{own}}))

	s.provide(3)
	f := s.fleet(workload{Nodes: s.namespace})
	c.secret(s.namespace, "scaler-client", "keda")
	s.apply(`apiVersion: keda.sh/v1alpha1
kind: TriggerAuthentication
metadata: {name: scaler}
spec:
  secretTargetRef:
    - {parameter: caCert, name: scaler-client, key: ca.crt}
    - {parameter: tlsClientCert, name: scaler-client, key: tls.crt}
    - {parameter: tlsClientKey, name: scaler-client, key: tls.key}
`)
	trigger := strings.ReplaceAll(push(`enableTLS: "true"`, "engine: lightning-asr", "hold: 1s"), "$SCALER", chartHost+":9090")
	f.scale(quick{min: 1, max: 20, triggers: trigger + "    authenticationRef: {name: scaler}\n"}.String())
	f.atReplicas(1)
	f.burst(100)
	f.atReplicas(3)
	f.ready(3)
	f.stays(3, 5*time.Second)
	s.wait("an event tells of it", func() error {
		if len(f.notes("CapacityLimited")) == 0 {
			return errors.New("none does")
		}
		return nil
	})
	f.finish()
	f.atReplicas(1)

	// A renewed certificate counts for new connections, and drops no stream.
	opened := func() (sum float64) {
		for _, pod := range c.pods {
			n, err := s.metric("http://"+pod.Status.PodIP+":8080/metrics", streamsOpened)
			require.NoError(t, err)
			sum += n
		}
		return sum
	}
	before := opened()
	require.Positive(t, before)
	require.NoError(t, c.authority.Issue("server", "scaler", chartHost))
	_, err = s.cluster.Kube.CoreV1().Secrets(chartNamespace).Patch(t.Context(), "scaler-tls", types.MergePatchType,
		fmt.Appendf(nil, `{"data": {"tls.crt": %q, "tls.key": %q}}`, base64.StdEncoding.EncodeToString(c.read("server.crt")), base64.StdEncoding.EncodeToString(c.read("server.key"))), metav1.PatchOptions{})
	require.NoError(t, err)
	renewed, err := tls.X509KeyPair(c.read("server.crt"), c.read("server.key"))
	require.NoError(t, err)
	for _, pod := range c.pods {
		s.wait("the renewed certificate is shown", func() error {
			shown := errors.New("it is not")
			err := handshake(pod.Status.PodIP, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{own}, VerifyConnection: func(state tls.ConnectionState) error {
				if bytes.Equal(state.PeerCertificates[0].Raw, renewed.Certificate[0]) {
					shown = nil
				}
				return nil
			}})
			return cmp.Or(err, shown)
		})
	}
	f.burst(100)
	f.atReplicas(3)
	f.finish()
	require.Equal(t, before, opened(), "no stream was opened again")
	c.allowed()
	c.usesAll("e2e.yaml")
}

// usesAll waits until the installation has made use of every right that its rendering
// grants: it grants nothing more than it needs. That it needs nothing more, allowed says.
func (c *chart) usesAll(rendering string) {
	c.Helper()
	text, err := os.ReadFile(chartRenderings + rendering)
	require.NoError(c, err)
	var granted []string
	for _, doc := range strings.Split(string(text), "---\n") {
		var role struct {
			Kind  string
			Rules []rbacv1.PolicyRule
		}
		require.NoError(c, yaml.Unmarshal([]byte(doc), &role))
		for _, r := range role.Rules {
			for _, group := range r.APIGroups {
				for _, resource := range r.Resources {
					for _, verb := range r.Verbs {
						granted = append(granted, verb+" "+group+"/"+resource)
					}
				}
			}
		}
	}
	require.Greater(c, len(granted), 20)
	c.wait("every right has been used", func() error {
		log, err := os.ReadFile(c.cluster.AuditLog)
		if err != nil {
			return err
		}
		used := map[string]bool{}
		for line := range strings.Lines(string(log)) {
			var e struct {
				Verb      string
				ObjectRef struct{ APIGroup, Resource string }
			}
			if json.Unmarshal([]byte(line), &e) == nil { // the last may not be whole yet
				used[e.Verb+" "+e.ObjectRef.APIGroup+"/"+e.ObjectRef.Resource] = true
			}
		}
		idle := slices.DeleteFunc(slices.Clone(granted), func(right string) bool {
			// Where the API server streams its lists, a watch begins with one.
			resource, list := strings.CutPrefix(right, "list ")
			return used[right] || list && used["watch "+resource]
		})
		if len(idle) > 0 {
			return fmt.Errorf("not used: %v", idle)
		}
		return nil
	})
}

// streamsOpened counts the streams that KEDA has opened at a scaler.
const streamsOpened = `grpc_server_started_total{grpc_method="StreamIsActive",grpc_service="externalscaler.ExternalScaler",grpc_type="server_stream"}`

// plaintext calls a scaler without TLS.
func plaintext(ctx context.Context, ip string) error {
	conn, err := grpc.NewClient(net.JoinHostPort(ip, "9090"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err = healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	return err
}

// handshake opens a connection to KEDA's listener, and reads until the server refuses it,
// or answers.
func handshake(ip string, config *tls.Config) error {
	config.NextProtos = []string{"h2"}
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", net.JoinHostPort(ip, "9090"), config)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1)) // of the settings
	return err
}
