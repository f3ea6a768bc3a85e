package chart

import (
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"helm.sh/helm/v4/pkg/chart/common"
	commonutil "helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"sigs.k8s.io/yaml"
)

const dir = "../../deploy/chart/inference-scaler"

// render is `helm template RELEASE -n NAMESPACE` with these values: the manifests by
// their templates' names, and the notes.
func render(release, namespace string, values map[string]any) (map[string]string, error) {
	chart, err := loader.LoadDir(dir)
	if err != nil {
		return nil, err
	}
	all, err := commonutil.ToRenderValues(chart, values, common.ReleaseOptions{Name: release, Namespace: namespace, IsInstall: true}, nil)
	if err != nil {
		return nil, err
	}
	out, err := engine.Render(chart, all)
	if err != nil {
		return nil, err
	}
	for name, text := range out {
		delete(out, name)
		if strings.TrimSpace(text) != "" {
			out[filepath.Base(name)] = text
		}
	}
	return out, nil
}

func valuesOf(t *testing.T, file string) (values map[string]any) {
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(text, &values))
	return values
}

func ciFiles(t *testing.T) []string {
	files, err := filepath.Glob(dir + "/ci/*-values.yaml")
	require.NoError(t, err)
	require.Greater(t, len(files), 3)
	return files
}

// secret is what Helm makes anew each time.
var secret = regexp.MustCompile(`(?m)^(\s+(?:ca\.crt|tls\.crt|tls\.key): )\S+$`)

func TestRendering(t *testing.T) {
	for _, file := range ciFiles(t) {
		name := strings.TrimSuffix(filepath.Base(file), "-values.yaml")
		t.Run(name, func(t *testing.T) {
			release, namespace, address := "inference-scaler", "keda", "inference-scaler.keda.svc:9090"
			if strings.HasPrefix(name, "e2e") { // beside another one
				release, namespace, address = "chart", "chart-e2e", "chart-inference-scaler.chart-e2e.svc:9090"
			}
			out, err := render(release, namespace, valuesOf(t, file))
			require.NoError(t, err)
			var b strings.Builder
			for _, template := range slices.Sorted(maps.Keys(out)) {
				if template == "NOTES.txt" {
					require.Contains(t, out[template], address)
					continue
				}
				for _, doc := range regexp.MustCompile(`(?m)^---$`).Split(out[template], -1) {
					if strings.TrimSpace(doc) == "" {
						continue
					}
					var object map[string]any
					require.NoError(t, yaml.UnmarshalStrict([]byte(doc), &object), doc)
					require.NotEmpty(t, object["kind"], doc)
					clean, err := yaml.Marshal(object)
					require.NoError(t, err)
					fmt.Fprintf(&b, "---\n%s", secret.ReplaceAllString(string(clean), "${1}UkVEQUNURUQ="))
				}
			}
			golden(t, "testdata/"+name+".yaml", b.String())
		})
	}
}

// golden compares with a file; UPDATE=1 writes it.
func golden(t *testing.T, path, got string) {
	if os.Getenv("UPDATE") != "" {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got, "if this is right, make generate writes it again")
}

func TestLint(t *testing.T) {
	for _, file := range ciFiles(t) {
		result := lint.RunAll(dir, valuesOf(t, file), "keda")
		for _, m := range result.Messages {
			require.Less(t, m.Severity, support.WarningSev, "%s: %s: %v", file, m.Path, m.Err)
		}
	}
}

// What is shown as a trigger is one that KEDA gets through with.
func TestNotesSayHowKEDAIsLetIn(t *testing.T) {
	for values, want := range map[string][]string{
		"{}":                                     nil,
		"tls: {enabled: true, selfSigned: true}": {`enableTLS: "true"`, `authenticationRef: {"name":"inference-scaler"}`, "copy both from keda"},
		"tls: {enabled: true, secretName: own}":  {"with caCert has to say which did: see"},
		"tls: {enabled: true, secretName: own, clientCertificates: true}":                                  {"and\nwith tlsClientCert and tlsClientKey"},
		"tls: {enabled: true, secretName: own, authenticationRef: {name: k, kind: TriggerAuthentication}}": {`authenticationRef: {"kind":"TriggerAuthentication","name":"k"}`},
	} {
		var v map[string]any
		require.NoError(t, yaml.Unmarshal([]byte(values), &v))
		out, err := render("inference-scaler", "keda", v)
		require.NoError(t, err)
		for _, w := range want {
			require.Contains(t, out["NOTES.txt"], w)
		}
		require.Equal(t, want != nil, strings.Contains(out["NOTES.txt"], "TLS"))
	}
}

func TestRefusedValues(t *testing.T) {
	for _, tc := range []struct{ values, want string }{
		{"replica: 3", "additional properties 'replica' not allowed"},
		{"replicas: 0", "replicas"},
		{"log: {level: loud}", "log/level"},
		{"tls: {enabled: true}", "tls"},
		{"tls: {enabled: true, secretName: ''}", "tls"},
		{"push: {enabled: true}", "push"},
		{"capacity: {nodeAutoscaler: karpenter}", "nodeAutoscaler"},
		{"namespaces: [Not_A_Name]", "namespaces"},
		{"image: {digest: latest}", "digest"},
		{"autoscaling: {llm: [{name: x}]}", "missing properties"},
		{"autoscaling: {lightningAsr: {target: 5}}", "additional properties 'target' not allowed"},
		{"autoscaling: {lightningAsr: {enabled: true, minReplicas: 0}}", "minReplicas: 0 needs autoscaling.lightningAsr.upstream"},
		{"autoscaling: {llm: [{name: x, engine: vllm, minReplicas: 0, maxReplicas: 2}]}", "x: minReplicas 0 needs an upstream"},
		{"autoscaling: {llm: [{name: x, engine: vllm, minReplicas: 1, maxReplicas: 2, kind: Pod}]}", "kind"},
		{"{tls: {enabled: true, secretName: own, clientCertificates: true}, autoscaling: {lightningAsr: {enabled: true}}}", "needs tls.authenticationRef"},
		{"tls: {authenticationRef: {kind: Secret}}", "authenticationRef"},
		{"tls: {authenticationRef: {kind: ClusterTriggerAuthentication}}", "authenticationRef"},
		{"{tls: {enabled: true, selfSigned: true, clientCertificates: true, certManager: {enabled: true, issuerRef: {name: i}}}, autoscaling: {lightningAsr: {enabled: true}}}", "needs tls.authenticationRef"},
	} {
		var v map[string]any
		require.NoError(t, yaml.Unmarshal([]byte(tc.values), &v), tc.values)
		_, err := render("inference-scaler", "keda", v)
		require.ErrorContains(t, err, tc.want, tc.values)
	}
}

// TestNothingIsGrantedBeyondWhatIsRead compares the roles with the doc comments of the
// packages that use the API server. The end-to-end tests run with these roles.
func TestNothingIsGrantedBeyondWhatIsRead(t *testing.T) {
	out, err := render("inference-scaler", "keda", map[string]any{"secrets": true, "scaleTargets": []any{"argoproj.io/rollouts"}})
	require.NoError(t, err)
	var doc strings.Builder
	for _, pattern := range []string{"../../metricsource/kubernetes/doc.go", "../../metricsource/kubernetes/*/doc.go"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		require.NotEmpty(t, files, pattern)
		for _, file := range files {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			doc.Write(text)
		}
	}
	for _, text := range regexp.MustCompile(`(?m)^---$`).Split(out["rbac.yaml"], -1) {
		var role struct {
			Rules []struct{ APIGroups, Resources, Verbs []string }
		}
		require.NoError(t, yaml.Unmarshal([]byte(text), &role))
		for _, rule := range role.Rules {
			for _, verb := range rule.Verbs {
				require.Contains(t, []string{"get", "list", "watch", "create", "update"}, verb)
			}
			for _, resource := range rule.Resources {
				require.NotContains(t, resource, "*")
				named := path.Base(resource) // of a subresource, the subresource
				if named == "configmaps" {
					named = "ConfigMap"
				}
				require.Contains(t, doc.String(), named, "%v", rule)
			}
		}
	}
}
