package evidence

import (
	"errors"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/metricsource"
	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	"github.com/inference-scaler/inference-scaler/scaler/decision"
	"github.com/inference-scaler/inference-scaler/scaler/trigger"
)

func spec(t *testing.T, metadata map[string]string) *trigger.Trigger {
	s, err := trigger.Parse(metadata)
	require.NoError(t, err)
	return s
}

var ownQuery = map[string]string{"query": "sum(queue)", "target": "5", "prometheusAddress": "http://prometheus:9090", "staleAfter": "30s", "interval": "5s"}

// The result of an own query is used until it is older than staleAfter, whether the last
// round failed or is only late.
func TestResultOfAnOwnQueryExpires(t *testing.T) {
	s := spec(t, ownQuery)
	w := metricsource.NewWindow(0)
	server := w.Target(labels.FromStrings(metricsource.QueryLabel, "query"))
	series := server.Series(labels.FromStrings("__name__", metricsource.QueryMetric))
	require.NoError(t, server.Commit(at(0), []metricsource.Point{{Series: series, Value: 7}}))
	for name, tc := range map[string]struct {
		after time.Duration
		err   error
		want  string
	}{
		"fresh":           {10 * time.Second, nil, ""},
		"failed, not old": {10 * time.Second, errors.New("refused"), ""},
		"failed and old":  {31 * time.Second, errors.New("refused"), "refused"},
		"late":            {31 * time.Second, nil, "no result for 31s"},
	} {
		t.Run(name, func(t *testing.T) {
			now := at(0).Add(tc.after)
			o := Observation{
				Workload: &cluster.Workload{Replicas: 1},
				Pods:     Samples{Window: w},
				Queries:  map[string]metricsource.QueryStatus{"query": {Status: metricsource.Status{Answered: at(0), Tried: at(0), Err: tc.err}}},
			}
			in, signals := Gather(t.Context(), s, o, &Results{}, now)
			require.Equal(t, tc.want, in.Load.Err)
			require.True(t, in.Load.Independent)
			require.Equal(t, "sum(queue)", signals[0].PromQL, "as it was given")
			if tc.want == "" {
				require.Equal(t, []decision.Value{{Value: 7}}, in.Load.Values)
			}
		})
	}
}

// A query that was never asked is not an error, and not a result.
func TestOwnQueryThatWasNeverAsked(t *testing.T) {
	in, signals := Gather(t.Context(), spec(t, ownQuery), Observation{Workload: &cluster.Workload{Replicas: 1}, Pods: Samples{Window: metricsource.NewWindow(0)}}, &Results{}, at(0))
	require.Equal(t, decision.Reading{Configured: true}, in.Load)
	require.Empty(t, signals)
}

// A pod that terminates has ended once it does not answer. With own queries the server
// answers, and the pod may still have work.
func TestEnded(t *testing.T) {
	scraped, own := spec(t, map[string]string{"engine": "lightning-asr"}), spec(t, ownQuery)
	draining := cluster.Pod{Name: "a", Phase: "Running", Terminating: true}
	answered := metricsource.Status{Answered: at(0), Tried: at(0)}
	failed := metricsource.Status{Answered: at(0), Tried: at(60_000), Err: errors.New("refused")}
	for name, tc := range map[string]struct {
		spec *trigger.Trigger
		pod  cluster.Pod
		st   metricsource.Status
		now  time.Time
		want bool
	}{
		"draining":                  {scraped, draining, answered, at(1000), false},
		"draining, own queries":     {own, draining, answered, at(1000), false},
		"not tried yet":             {scraped, draining, metricsource.Status{}, at(1000), false},
		"silent":                    {scraped, draining, failed, at(60_000), true},
		"silent and not terminated": {scraped, cluster.Pod{Name: "a", Phase: "Running"}, failed, at(60_000), false},
		"without its series":        {scraped, draining, metricsource.Status{Answered: at(0), Tried: at(0), Err: &metricsource.NoSeriesError{}}, at(1000), false},
	} {
		require.Equal(t, tc.want, Ended(tc.spec, tc.pod, tc.st, tc.now), name)
	}
}
