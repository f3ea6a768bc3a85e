package check

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/scaler/manifest"
)

const (
	clean = "testdata/clean.yaml"
	// Parts of the clean file: a trigger of another scaler, and the start of one of this scaler.
	other = "    - type: external-push # of another scaler\n      metadata: {scalerAddress: other.keda.svc:9090, anything: goes}\n"
	own   = "    - type: external-push\n" + ownMetadata

	ownMetadata = "      metadata:\n        scalerAddress: inference-scaler.keda.svc:9090\n        engine"

	rollout = `
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: whisper}
spec:
  scaleTargetRef: {name: whisper}
  minReplicaCount: 1
  advanced:
    horizontalPodAutoscalerConfig:
      behavior: {scaleUp: {tolerance: "0"}, scaleDown: {tolerance: "0"}}
  triggers:
    - {type: external-push, metadata: {scalerAddress: "inference-scaler.keda.svc:9090", engine: vllm}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: whisper}
spec:
  strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 20%}}
  template:
    spec:
      terminationGracePeriodSeconds: 60
      containers: [{resources: {requests: {amd.com/gpu: 1}}}]
`
)

func autoscaler(name, owner string) string {
	return fmt.Sprintf(`
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: %s, namespace: llm%s}
spec:
  scaleTargetRef: {kind: StatefulSet, name: vllm}
`, name, owner)
}

// cases violate each rule by changes to the clean file: pairs of an old and a new text. An empty
// old text appends the new one.
var cases = []struct {
	rule    string
	name    string
	changes []string
}{
	{"shape", "a number given as text", []string{"maxReplicaCount: 8", `maxReplicaCount: "8 or so"`}},
	{"shape", "metadata that are not a string", []string{`target: "5"`, "target: 5"}},
	{"metadata", "an unknown key", []string{`target: "5"`, `tarket: "5"`}},
	{"metadata", "a target of 0", []string{`target: "5"`, `target: "0"`}},
	{"metadata", "a value from the environment", []string{`target: "5"`, `targetFromEnv: TARGET`}},
	{"metadata", "an engine from the environment, at an address that does not name the scaler", []string{"inference-scaler.keda.svc:9090\n        engine: vllm", "scaler:9090\n        engineFromEnv: ENGINE"}},
	{"metadata", "an engine without its port", []string{"engine: vllm", "engine: queue-depth\n        inflightQuery: sum(x)", "        target: \"5\"\n", ""}},
	{"address", "missing", []string{own, "    - type: external-push\n      metadata:\n        engine"}},
	{"external", "no stream", []string{own, "    - type: external\n" + ownMetadata}},
	{"metric-type", "a value per pod", []string{own, "    - type: external-push\n      metricType: Value\n" + ownMetadata}},
	{"cached-metrics", "the last poll", []string{own, "    - type: external-push\n      useCachedMetrics: true\n" + ownMetadata}},
	{"fallback-zero", "no replicas", []string{"replicas: 2}", "replicas: 0}"}},
	{"two-autoscalers", "a second HPA", []string{"", autoscaler("vllm", "")}},
	{"two-autoscalers", "two ScaledObjects", []string{"scaleTargetRef: {name: api-server}", "scaleTargetRef: {kind: StatefulSet, name: vllm}"}},
	{"bounds", "a maximum below the minimum", []string{"minReplicaCount: 1\n  maxReplicaCount: 4", "minReplicaCount: 5\n  maxReplicaCount: 4"}},
	{"bounds", "idle replicas equal to the minimum", []string{"minReplicaCount: 1\n  maxReplicaCount: 4", "minReplicaCount: 1\n  idleReplicaCount: 1\n  maxReplicaCount: 4"}},

	{"zero-unseen", "no upstream", []string{"        upstream: service/api-server:http\n", "", other, ""}},
	{"zero-unseen", "0 by default", []string{"        upstream: service/api-server:http\n", "", other, "    - {type: cpu, metricType: Utilization, metadata: {value: \"70\"}}\n", "  minReplicaCount: 0\n", ""}},
	{"zero-in-flight", "an engine without work in flight", []string{"engine: vllm", "engine: queue-depth\n        port: \"8000\""}},
	{"zero-in-flight", "a query for both", []string{"engine: vllm", "query: sum(waiting)\n        port: \"8000\""}},
	{"cooldown", "shorter than the startup probe allows", []string{"cooldownPeriod: 600", "cooldownPeriod: 240"}},
	{"cooldown", "shorter than models load", []string{"cooldownPeriod: 600", "cooldownPeriod: 60", "              startupProbe: {periodSeconds: 10, failureThreshold: 30}\n", ""}},
	{"formula", "zero replicas while requests run", []string{"  advanced:\n    horizontalPodAutoscalerConfig:\n      behavior:\n        scaleUp:\n", "  advanced:\n    scalingModifiers: {formula: \"max(a, b)\", target: \"1\"}\n    horizontalPodAutoscalerConfig:\n      behavior:\n        scaleUp:\n"}},

	{"tolerance", "in one direction", []string{"tolerance: 0\n", "tolerance: 0.1\n"}},
	{"tolerance", "in no direction", []string{"      behavior:\n        scaleUp: {tolerance: \"0\"}\n        scaleDown: {tolerance: \"0\"}\n", "      name: own\n"}},
	{"slow-growth", "a pod per minute", []string{"{type: Percent, value: 100, periodSeconds: 15}", "{type: Pods, value: 1, periodSeconds: 60}"}},
	{"slow-growth", "never", []string{"tolerance: \"0\"\n          policies", "tolerance: \"0\"\n          selectPolicy: Disabled\n          policies"}},
	{"slow-growth", "not within a day", []string{"{type: Percent, value: 100, periodSeconds: 15}", "{type: Pods, value: 0, periodSeconds: 60}"}},
	{"statefulset-order", "one at a time", []string{"      podManagementPolicy: Parallel\n", ""}},
	{"surge", "a new pod first", []string{"", rollout}},

	{"workload", "no workload of this name", []string{"    kind: StatefulSet\n    name: vllm", "    kind: StatefulSet\n    name: vlllm"}},
	{"port", "not a port of the container", []string{"containerPort: 8000", "containerPort: 80"}},
	{"gpu-request", "no request", []string{"              resources: {limits: {nvidia.com/gpu: 1}}\n", ""}},
	{"gpus-per-replica", "with a request", []string{"engine: vllm", "engine: vllm\n        gpusPerReplica: \"2\""}},
	{"grace-period", "too short", []string{"terminationGracePeriodSeconds: 120\n          containers: [", "terminationGracePeriodSeconds: 20\n          containers: ["}},
	{"grace-period", "the default", []string{"          terminationGracePeriodSeconds: 120\n          containers: [", "          containers: ["}},
}

func TestRules(t *testing.T) {
	text, err := os.ReadFile(clean)
	require.NoError(t, err)
	require.Equal(t, Report{Findings: []Finding{}, WithoutWorkload: []string{}, ScaledObjects: 2}, run(t, string(text), Options{Complete: true}))

	violated := map[string]bool{}
	var golden strings.Builder
	for _, c := range cases {
		report := run(t, change(t, string(text), c.changes), Options{Complete: c.rule == "workload"})
		fmt.Fprintf(&golden, "== %s: %s\n", c.rule, c.name)
		require.NoError(t, report.Text(&golden))
		rules := map[string]bool{}
		for _, f := range report.Findings {
			rules[f.Rule] = true
			require.Positive(t, f.Line)
		}
		require.Equal(t, map[string]bool{c.rule: true}, rules, c.name)
		violated[c.rule] = true
	}
	for _, r := range Rules {
		require.True(t, violated[r.Name], "no case violates %s", r.Name)
	}
	compare(t, "testdata/rules.golden", golden.String())
}

// Without a behavior the HPA grows to twice the replicas or 4 per sync. The default
// policies of a behavior do not apply: 1100 replicas take 9 syncs instead of 8.
func TestGrowthWithoutBehavior(t *testing.T) {
	text, err := os.ReadFile(clean)
	require.NoError(t, err)
	const behavior = "      behavior:\n        scaleUp: {tolerance: \"0\"}\n        scaleDown: {tolerance: \"0\"}\n"
	large := []string{"minReplicaCount: 1\n  maxReplicaCount: 4", "minReplicaCount: 1\n  maxReplicaCount: 1100"}
	require.Empty(t, run(t, change(t, string(text), large), Options{}).Findings)
	findings := run(t, change(t, string(text), append(large, behavior, "      name: own\n")), Options{}).Findings
	require.Len(t, findings, 2)
	require.Equal(t, "tolerance", findings[0].Rule)
	require.Equal(t, "slow-growth", findings[1].Rule)
	require.Contains(t, findings[1].Message, "policies: the workload takes at least 2m15s to grow from 1 to 1100 replicas")
}

func TestNoFindings(t *testing.T) {
	text, err := os.ReadFile(clean)
	require.NoError(t, err)
	for name, changes := range map[string][]string{
		"demand that is pushed":                     {"upstream: service/api-server:http", "upstreamEngine: demand", other, ""},
		"a schedule wakes it up":                    {"        upstream: service/api-server:http\n", "", other, "    - {type: cron, metadata: {}}\n"},
		"an own query to Prometheus":                {"engine: vllm", "query: sum(x)\n        prometheusAddress: http://prometheus:9090", "        upstream: service/api-server:http\n", "", other, ""},
		"the HPA of KEDA":                           {"", autoscaler("keda-hpa-vllm", ", ownerReferences: [{kind: ScaledObject, name: vllm}]")},
		"the HPA that KEDA takes over":              {"", autoscaler("old", ""), "  name: vllm\n  namespace: llm\n", "  name: vllm\n  namespace: llm\n  annotations: {scaledobject.keda.sh/transfer-hpa-ownership: \"true\"}\n", "    horizontalPodAutoscalerConfig:\n      behavior:\n        scaleUp:\n", "    horizontalPodAutoscalerConfig:\n      name: old\n      behavior:\n        scaleUp:\n"},
		"a workload in another namespace":           {"metadata: {name: vllm, namespace: llm}\n    spec:\n      podManagementPolicy: Parallel", "metadata: {name: vllm, namespace: other}\n    spec:"},
		"pods without GPUs":                         {"engine: vllm", "engine: vllm\n        gpuCapacity: \"off\"", "              resources: {limits: {nvidia.com/gpu: 1}}\n", ""},
		"GPUs that the pods do not request":         {"engine: vllm", "engine: vllm\n        gpusPerReplica: \"1\"", "              resources: {limits: {nvidia.com/gpu: 1}}\n", ""},
		"aliases":                                   {"engine: vllm", "engine: *e", "apiVersion: keda.sh/v1alpha1", "x: &e vllm\napiVersion: keda.sh/v1alpha1"},
		"a sidecar's port":                          {"ports: [{containerPort: 8000}]", "ports: [{containerPort: 80}]", "          containers:\n            - name: vllm", "          initContainers: [{name: proxy, restartPolicy: Always, ports: [{containerPort: 8000}]}]\n          containers:\n            - name: vllm"},
		"a fallback that keeps the replicas":        {"replicas: 2}", "replicas: 0, behavior: currentReplicas}"},
		"scaling down is disabled":                  {"tolerance: 0\n", "selectPolicy: Disabled\n"},
		"a rollout that removes a pod first":        {"", strings.Replace(rollout, "maxSurge: 1, maxUnavailable: 20%", "maxSurge: 0, maxUnavailable: 1", 1)},
		"a rollout that removes all pods first":     {"", strings.Replace(rollout, "rollingUpdate: {maxSurge: 1, maxUnavailable: 20%}", "type: Recreate", 1)},
		"a formula, and never zero replicas":        {"minReplicaCount: 0", "minReplicaCount: 1", "  advanced:\n    horizontalPodAutoscalerConfig:\n      behavior:\n        scaleUp:\n", "  advanced:\n    scalingModifiers: {formula: \"max(a, b)\"}\n    horizontalPodAutoscalerConfig:\n      behavior:\n        scaleUp:\n"},
		"a short cooldown, and never zero replicas": {"minReplicaCount: 0", "minReplicaCount: 1", "cooldownPeriod: 600", "cooldownPeriod: 0"},
	} {
		require.Empty(t, run(t, change(t, string(text), changes), Options{}).Findings, name)
	}
}

// A malformed ScaledObject is a finding, even if its triggers are malformed too.
func TestMalformed(t *testing.T) {
	for _, text := range []string{
		"kind: ScaledObject\nmetadata: {name: a}\nspec: []\n", "kind: ScaledObject\nmetadata: {name: a}\nspec: {triggers: {type: external-push}}\n",
	} {
		require.Equal(t, "shape", run(t, text, Options{}).Findings[0].Rule, text)
	}
}

// An object from a cluster has no file and no line.
func TestClusterObjects(t *testing.T) {
	text, err := os.ReadFile(clean)
	require.NoError(t, err)
	docs, err := manifest.Read("", strings.NewReader(change(t, string(text), []string{"", autoscaler("vllm", "")})))
	require.NoError(t, err)
	report := Check(docs, Options{Complete: true})
	require.Len(t, report.Findings, 1)
	require.Zero(t, report.Findings[0].Line)
	require.Contains(t, report.Findings[0].Message, "HorizontalPodAutoscaler llm/vllm also scales StatefulSet vllm")
}

// FuzzCheck: any text is read or rejected, without a hang or a panic.
func FuzzCheck(f *testing.F) {
	text, err := os.ReadFile(clean)
	require.NoError(f, err)
	f.Add(string(text))
	for _, c := range cases {
		f.Add(strings.Join(c.changes, "\n"))
	}
	f.Fuzz(func(t *testing.T, text string) {
		defer time.AfterFunc(20*time.Second, func() { panic("timeout") }).Stop()
		docs, err := manifest.Read("fuzz", strings.NewReader(text))
		if err != nil {
			return
		}
		report := Check(docs, Options{Complete: true})
		require.LessOrEqual(t, report.ScaledObjects, len(docs))
	})
}

func run(t *testing.T, text string, o Options) Report {
	docs, err := manifest.Read("file.yaml", strings.NewReader(text))
	require.NoError(t, err)
	return Check(docs, o)
}

func change(t *testing.T, text string, changes []string) string {
	for i := 0; i < len(changes); i += 2 {
		if changes[i] == "" {
			text += changes[i+1]
			continue
		}
		require.Contains(t, text, changes[i])
		text = strings.Replace(text, changes[i], changes[i+1], 1)
	}
	return text
}

func compare(t *testing.T, file, got string) {
	if os.Getenv("UPDATE") != "" {
		require.NoError(t, os.WriteFile(file, []byte(got), 0o600))
		return
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}
