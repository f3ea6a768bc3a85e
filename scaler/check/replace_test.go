package check

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The HPAs of three guides. What takes their place is taken by the scaler, and has
// nothing to mend.
func TestReplace(t *testing.T) {
	for name, r := range map[string]Replacement{
		"lightning-asr": {},
		"queue-depth":   {Port: 8000},
		"dynamo":        {},
	} {
		r.ScalerAddress = "inference-scaler.keda.svc:9090"
		values, err := os.Open("testdata/hpa/" + name + ".adapter.yaml")
		require.NoError(t, err)
		r.Adapter, err = ReadAdapter(name, values)
		require.NoError(t, err)
		text, err := os.ReadFile("testdata/hpa/" + name + ".yaml")
		require.NoError(t, err)
		got, open, err := r.Replace(documents(t, string(text)))
		require.NoError(t, err, name)
		require.Empty(t, open, name)
		compare(t, "testdata/hpa/"+name+".golden", string(got))
		// Beside the HPAs: they are taken over.
		report := Check(documents(t, string(text)+"---\n"+string(got)), Options{})
		require.Empty(t, report.Findings, name)
		require.Positive(t, report.ScaledObjects, name)
	}
}

// What an HPA does not tell is asked for, and never guessed.
func TestReplaceLeavesQuestionsOpen(t *testing.T) {
	const head = "kind: HorizontalPodAutoscaler\nmetadata: {name: a}\nspec:\n  scaleTargetRef: {kind: Deployment, name: b}\n  metrics:\n"
	for metric, want := range map[string]string{
		"{type: Pods, pods: {metric: {name: ai_request_queue_depth}, target: {type: AverageValue, averageValue: 5}}}":                                                                 "HorizontalPodAutoscaler a: the port that the pods serve their metrics at is missing, which no HPA tells: --port",
		"{type: Pods, pods: {metric: {name: num_requests_waiting}, target: {type: AverageValue, averageValue: 5}}}":                                                                   "the port that the pods serve",
		"{type: External, external: {metric: {name: queue}, target: {type: AverageValue, averageValue: 5}}}":                                                                          "metric queue: what it is, prometheus-adapter's values tell; give them as a second file, with prometheus.url",
		"{type: External, external: {metric: {name: vllm_num_requests_waiting}, target: {type: Value, value: 5}}}":                                                                    "metric vllm_num_requests_waiting has a target of type Value: how much each replica should carry is not known",
		"{type: Pods, pods: {metric: {name: 1metric}, target: {type: AverageValue, averageValue: 5}}}":                                                                                "query: ",
		"{type: Pods, pods: {metric: {name: vllm:num_requests_waiting}, target: {type: AverageValue, averageValue: many}}}":                                                           `metric vllm:num_requests_waiting: averageValue "many"`,
		"{type: Pods, pods: {metric: {name: vllm:num_requests_waiting}, target: {type: AverageValue, averageValue: 4Mi}}}":                                                            `target: "4194304"; wanted: a number from 0.001 to 1000000`,
		"{type: Pods, pods: {metric: {name: vllm:num_requests_waiting, selector: {matchExpressions: [{key: a, operator: Exists}]}}, target: {type: AverageValue, averageValue: 1k}}}": "metric vllm:num_requests_waiting has a selector with matchExpressions",
		"{type: Strange}": "a metric of type Strange is not known",
	} {
		text, open, err := Replacement{}.Replace(documents(t, head+"    - "+metric+"\n"))
		require.NoError(t, err)
		require.NotEmpty(t, open, metric)
		require.Contains(t, strings.Join(open, "\n"), want)
		require.Contains(t, string(text), "# "+strings.TrimPrefix(open[0], "HorizontalPodAutoscaler a: "), "and in the text, too")
	}
}

func TestReplaceRefuses(t *testing.T) {
	_, _, err := Replacement{}.Replace(documents(t, "kind: Deployment"))
	require.ErrorIs(t, err, ErrNoHPA)
	_, _, err = Replacement{}.Replace(documents(t, "kind: HorizontalPodAutoscaler\nmetadata: {name: old}\nspec: {targetCPUUtilizationPercentage: 70}"))
	require.ErrorContains(t, err, "file.yaml: HorizontalPodAutoscaler old: no spec.metrics; wanted: an HPA of autoscaling/v2")
	_, _, err = Replacement{}.Replace(documents(t, "kind: HorizontalPodAutoscaler\nmetadata: {name: old}\nspec: {maxReplicas: many}"))
	require.ErrorContains(t, err, "line 3: cannot unmarshal")
	_, err = ReadAdapter("values.yaml", strings.NewReader("replicas: 1"))
	require.ErrorContains(t, err, "values.yaml: no rules")
}

// Without a rule the leader is told by the metric's own labels.
func TestLeader(t *testing.T) {
	for name, want := range map[string]string{
		"kube_deployment_status_replicas": "asr", "kube_statefulset_replicas": "statefulset/asr", "kube_pod_info": "",
	} {
		rule, _ := (*Adapter)(nil).ofCluster(name)
		leader, _ := rule.leader(map[string]string{"deployment": "asr", "statefulset": "asr"})
		require.Equal(t, want, leader)
	}
}

func documents(t *testing.T, text string) []*Document {
	docs, err := Read("file.yaml", strings.NewReader(text))
	require.NoError(t, err)
	return docs
}
