package migrate

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/scaler/check"
	"github.com/inference-scaler/inference-scaler/scaler/manifest"
)

// The HPAs of three guides become ScaledObjects without findings of check.
func TestHPAs(t *testing.T) {
	for name, o := range map[string]Options{
		"lightning-asr": {},
		"queue-depth":   {Port: 8000},
		"dynamo":        {},
	} {
		o.ScalerAddress = "inference-scaler.keda.svc:9090"
		values, err := os.Open("testdata/hpa/" + name + ".adapter.yaml")
		require.NoError(t, err)
		o.Adapter, err = ReadAdapter(name, values)
		require.NoError(t, err)
		text, err := os.ReadFile("testdata/hpa/" + name + ".yaml")
		require.NoError(t, err)
		got, questions, err := HPAs(documents(t, string(text)), o)
		require.NoError(t, err, name)
		require.Empty(t, questions, name)
		compare(t, "testdata/hpa/"+name+".golden", string(got))
		// The HPAs are in the input too, because KEDA takes their ownership.
		report := check.Check(documents(t, string(text)+"---\n"+string(got)), check.Options{})
		require.Empty(t, report.Findings, name)
		require.Positive(t, report.ScaledObjects, name)
	}
}

// A value that the HPA does not contain becomes a question.
func TestQuestions(t *testing.T) {
	const head = "kind: HorizontalPodAutoscaler\nmetadata: {name: a}\nspec:\n  scaleTargetRef: {kind: Deployment, name: b}\n  metrics:\n"
	for metric, want := range map[string]string{
		"{type: Pods, pods: {metric: {name: ai_request_queue_depth}, target: {type: AverageValue, averageValue: 5}}}":                                                                 "HorizontalPodAutoscaler a: port: missing, because an HPA does not contain it; wanted: --port with the metrics port of the pods",
		"{type: Pods, pods: {metric: {name: num_requests_waiting}, target: {type: AverageValue, averageValue: 5}}}":                                                                   "port: missing",
		"{type: External, external: {metric: {name: queue}, target: {type: AverageValue, averageValue: 5}}}":                                                                          "metric queue: its query or its Prometheus is unknown; wanted: the values of prometheus-adapter with prometheus.url, as a second file",
		"{type: External, external: {metric: {name: vllm_num_requests_waiting}, target: {type: Value, value: 5}}}":                                                                    "metric vllm_num_requests_waiting: target type Value; wanted: AverageValue with the load per replica",
		"{type: Pods, pods: {metric: {name: 1metric}, target: {type: AverageValue, averageValue: 5}}}":                                                                                "query: ",
		"{type: Pods, pods: {metric: {name: vllm:num_requests_waiting}, target: {type: AverageValue, averageValue: many}}}":                                                           `metric vllm:num_requests_waiting: averageValue: "many"; wanted: a quantity`,
		"{type: Pods, pods: {metric: {name: vllm:num_requests_waiting}, target: {type: AverageValue, averageValue: 4Mi}}}":                                                            `target: "4194304"; wanted: a number from 0.001 to 1000000`,
		"{type: Pods, pods: {metric: {name: vllm:num_requests_waiting, selector: {matchExpressions: [{key: a, operator: Exists}]}}, target: {type: AverageValue, averageValue: 1k}}}": "metric vllm:num_requests_waiting: matchExpressions of its selector are not copied",
		"{type: Pods, pods: {metric: {name: requests_per_second}, target: {type: AverageValue, averageValue: 5}}}":                                                                    "metric requests_per_second: no rule of prometheus-adapter names its series; the query uses requests_per_second",
		"{type: Pods, pods: {metric: {name: vllm:num_requests_waiting, selector: {matchLabels: {model_name: a}}}, target: {type: AverageValue, averageValue: 5}}}":                    "metric vllm:num_requests_waiting has a selector; engine vllm counts the series with any labels",
		"{type: Object, object: {describedObject: {kind: Ingress, name: main}, metric: {name: vllm:num_requests_waiting}, target: {type: AverageValue, averageValue: 5}}}":            "metric vllm:num_requests_waiting describes Ingress main",
		"{type: Pods, pods: {metric: {name: engine_active_requests}, target: {type: AverageValue, averageValue: 40}}}":                                                                "port: missing",
		"{type: Strange}": `metric type "Strange" is not supported; wanted: Resource, ContainerResource, Pods, Object or External`,
	} {
		text, questions, err := HPAs(documents(t, head+"    - "+metric+"\n"), Options{})
		require.NoError(t, err)
		require.NotEmpty(t, questions, metric)
		require.Contains(t, strings.Join(questions, "\n"), want)
		require.Contains(t, string(text), "# "+strings.TrimPrefix(questions[0], "HorizontalPodAutoscaler a: "), "a comment of the text")
	}
}

func TestErrors(t *testing.T) {
	_, _, err := HPAs(documents(t, "kind: Deployment"), Options{})
	require.ErrorIs(t, err, ErrNoHPA)
	_, _, err = HPAs(documents(t, "kind: HorizontalPodAutoscaler\nmetadata: {name: old}\nspec: {targetCPUUtilizationPercentage: 70}"), Options{})
	require.ErrorContains(t, err, "file.yaml: HorizontalPodAutoscaler old: spec.metrics: missing; wanted: an HPA of autoscaling/v2")
	_, _, err = HPAs(documents(t, "kind: HorizontalPodAutoscaler\nmetadata: {name: old}\nspec: {maxReplicas: many}"), Options{})
	require.ErrorContains(t, err, "line 3: `many`; wanted: a whole number")
	_, err = ReadAdapter("values.yaml", strings.NewReader("replicas: 1"))
	require.ErrorContains(t, err, "values.yaml: rules: missing")
}

// Two metrics of one engine would be two triggers for the same load.
func TestOneTargetPerEngine(t *testing.T) {
	const metric = "    - {type: Pods, pods: {metric: {name: %s}, target: {type: AverageValue, averageValue: 700m}}}\n"
	text, questions, err := HPAs(documents(t, "kind: HorizontalPodAutoscaler\nmetadata: {name: a}\nspec:\n  scaleTargetRef: {kind: Deployment, name: b}\n  metrics:\n"+
		fmt.Sprintf(metric, "asr_active_requests")+fmt.Sprintf(metric, "asr_active_streams")), Options{})
	require.NoError(t, err)
	require.Contains(t, strings.Join(questions, "\n"), "metrics asr_active_requests and asr_active_streams are both part of the load of engine lightning-asr")
	require.Contains(t, string(text), `target: "0.7"`)
}

// Each HPA is converted, even if another one fails.
func TestManyHPAs(t *testing.T) {
	hpa := func(name, labels, kind, rest string) string {
		return fmt.Sprintf("---\nkind: HorizontalPodAutoscaler\nmetadata: {name: %s, namespace: n, %s}\nspec:\n  scaleTargetRef: {kind: %s, name: b}\n  maxReplicas: 3\n%s", name, labels, kind, rest)
	}
	const metrics = "  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 70}}}]\n"
	text, questions, err := HPAs(documents(t, hpa("old", "", "Deployment", "")+
		hpa("a", "labels: {team: speech}, annotations: {z: one, a: two}", "Deployment", metrics)+
		hpa("b", "", "StatefulSet", metrics)+hpa("c", "", "Deployment", metrics)), Options{})
	require.EqualError(t, err, "file.yaml: HorizontalPodAutoscaler n/old: spec.metrics: missing; wanted: an HPA of autoscaling/v2")
	require.Equal(t, []string{"HorizontalPodAutoscaler n/c: another HPA also scales Deployment b; wanted: one ScaledObject with the triggers of both"}, questions)
	require.Contains(t, string(text), "# annotations are not copied, because most belong to other tools: a, z\n")
	var names []string
	for _, doc := range documents(t, string(text)) {
		names = append(names, doc.Metadata.Name)
	}
	require.Equal(t, []string{"b", "b-statefulset", "b"}, names)
	require.Equal(t, map[string]string{"team": "speech"}, documents(t, string(text))[0].Metadata.Labels)
}

// Aliases are resolved.
func TestAliases(t *testing.T) {
	const hpa = "kind: HorizontalPodAutoscaler\nmetadata: {name: %s}\nspec:\n  scaleTargetRef: {kind: Deployment, name: b}\n" +
		"  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 70}}}]\n  behavior: %s\n"
	indented := func(text string) string {
		return "  - " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    ") + "\n"
	}
	text, _, err := HPAs(documents(t, "kind: List\nitems:\n"+
		indented(fmt.Sprintf(hpa, "a", "&b {scaleDown: {stabilizationWindowSeconds: 77}, scaleUp: null}"))+indented(fmt.Sprintf(hpa, "b", "*b"))), Options{})
	require.NoError(t, err)
	require.Equal(t, 2, strings.Count(string(text), "stabilizationWindowSeconds: 77"))
	require.Equal(t, 4, strings.Count(string(text), `tolerance: "0"`))
	require.Len(t, documents(t, string(text)), 2)
}

// The query of a rule gets its series and labels.
func TestRuleQueries(t *testing.T) {
	for _, tc := range []struct{ rule, want string }{
		{"{seriesQuery: 'asr_active_requests{pod!=\"\"}', name: {as: m}, metricsQuery: '100 * sum(<< .Series >>{<<.LabelMatchers>>,code!~\"5..\"}) by (<<.GroupBy>>)'}", `query: 100 * sum(asr_active_requests{code!~"5.."}) by (pod)`},
		{"{seriesQuery: \"jobs{namespace!='',queue='a'}\", name: {as: m}, metricsQuery: 'sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)'}", `query: sum(jobs{queue="a"}) by (pod)`},
	} {
		adapter, err := ReadAdapter("a", strings.NewReader("rules: ["+tc.rule+"]"))
		require.NoError(t, err)
		text, questions, err := HPAs(documents(t, "kind: HorizontalPodAutoscaler\nmetadata: {name: a}\nspec:\n  scaleTargetRef: {kind: Deployment, name: b}\n"+
			"  metrics: [{type: Pods, pods: {metric: {name: m}, target: {type: AverageValue, averageValue: 5}}}]\n"), Options{Adapter: adapter, Port: 80})
		require.NoError(t, err)
		require.Empty(t, questions)
		require.Contains(t, string(text), tc.want)
	}
}

// Without a rule, the metric's labels name the leader.
func TestLeader(t *testing.T) {
	for name, want := range map[string]string{
		"kube_deployment_status_replicas": "asr", "kube_statefulset_replicas": "statefulset/asr", "kube_pod_info": "",
	} {
		rule, _ := (*Adapter)(nil).clusterRule(name, false)
		require.Equal(t, name, rule.series)
		leader, _ := rule.leader(map[string]string{"deployment": "asr", "statefulset": "asr"})
		require.Equal(t, want, leader)
	}
}

// FuzzHPAs: any text is converted or rejected, without a hang or a panic.
func FuzzHPAs(f *testing.F) {
	for _, name := range []string{"lightning-asr", "queue-depth", "dynamo"} {
		text, err := os.ReadFile("testdata/hpa/" + name + ".yaml")
		require.NoError(f, err)
		values, err := os.ReadFile("testdata/hpa/" + name + ".adapter.yaml")
		require.NoError(f, err)
		f.Add(string(text), string(values))
	}
	f.Fuzz(func(t *testing.T, text, values string) {
		defer time.AfterFunc(20*time.Second, func() { panic("timeout") }).Stop()
		docs, err := manifest.Read("fuzz", strings.NewReader(text))
		if err != nil {
			return
		}
		adapter, _ := ReadAdapter("fuzz", strings.NewReader(values)) // nil after an error
		converted, _, err := HPAs(docs, Options{Adapter: adapter})
		if err != nil {
			return
		}
		again, err := manifest.Read("converted", bytes.NewReader(converted))
		require.NoError(t, err)
		require.NotEmpty(t, again)
	})
}

func documents(t *testing.T, text string) []*manifest.Document {
	docs, err := manifest.Read("file.yaml", strings.NewReader(text))
	require.NoError(t, err)
	return docs
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
