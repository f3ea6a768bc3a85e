package kubernetes

import (
	"testing"
	"testing/synctest"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// follows is a trigger that follows a leader.
func follows(leader string) map[string]any {
	return map[string]any{"type": "external-push", "metadata": map[string]any{"follow": leader}}
}

func TestLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newObject("ns", "api", named("api"))
		api.Object["spec"].(map[string]any)["triggers"] = []any{follows("asr")}
		f := newFixture(t, Options{}, newObject("ns", "asr-scaled", named("asr")), api,
			newDeployment("ns", "asr", 4, app("asr")), newDeployment("ns", "api", 1, app("api")), newDeployment("ns", "alone", 2, app("alone")),
			newPod("ns", "asr-0", app("asr")), newPod("ns", "alone-0", app("alone")), newPod("elsewhere", "asr-9", app("asr")))
		_, err := f.cluster.Leader("ns", "", "asr")
		require.ErrorIs(t, err, cluster.ErrNotSynced)
		f.run()
		f.settle()

		w, err := f.cluster.Leader("ns", "", "asr")
		require.NoError(t, err)
		require.Equal(t, "asr-scaled", w.ScaledObject)
		require.Equal(t, 4, w.Replicas)
		require.Len(t, w.Pods, 1, "of its own namespace")
		w, err = f.cluster.Leader("ns", "deployment", "alone")
		require.NoError(t, err)
		require.Empty(t, w.ScaledObject, "nothing scales it")
		require.Equal(t, 2, w.Replicas)
		require.Equal(t, "alone-0", w.Pods[0].Name)
		for _, of := range [][2]string{{"", "nothing"}, {"StatefulSet", "asr"}} {
			_, err = f.cluster.Leader("ns", of[0], of[1])
			require.ErrorIs(t, err, cluster.ErrNotFound)
		}
		_, err = f.cluster.Leader("elsewhere", "", "asr")
		require.ErrorIs(t, err, cluster.ErrNotFound)

		f.apply(newDeployment("ns", "asr", 7, app("asr")))
		require.ElementsMatch(t, []string{"ns/asr-scaled", "ns/api"}, f.settle(), "its followers are notified")
		f.apply(newPod("ns", "asr-1", app("asr")))
		require.ElementsMatch(t, []string{"ns/asr-scaled", "ns/api"}, f.settle())
		f.apply(newDeployment("ns", "alone", 3, app("alone")))
		require.Empty(t, f.settle(), "and nobody else")

		replicas := int32(1)
		_, err = f.kube.AppsV1().StatefulSets("ns").Create(background, &appsv1.StatefulSet{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "asr"},
			Spec:       appsv1.StatefulSetSpec{Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: app("other")}},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
		f.settle()
		_, err = f.cluster.Leader("ns", "", "asr")
		require.EqualError(t, err, "2 workloads are named ns/asr: name one as kind/name")
		w, err = f.cluster.Leader("ns", "StatefulSet", "asr")
		require.NoError(t, err)
		require.Equal(t, 1, w.Replicas)
	})
}

// The former target of a ScaledObject is no longer scaled: its followers change.
// A trigger's values may have white space around them, as of a YAML block: the parser of
// the metadata drops it.
func TestValuesAreTrimmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newObject("ns", "api", named("api"))
		api.Object["spec"].(map[string]any)["triggers"] = []any{
			follows("asr\n"),
			map[string]any{"type": "external-push", "metadata": map[string]any{"upstream": " service/api:http"}},
		}
		f := newFixture(t, Options{}, api, newDeployment("ns", "asr", 4, app("asr")), newDeployment("ns", "api", 1, app("api"))).run()
		f.settle()
		f.apply(newDeployment("ns", "asr", 5, app("asr")))
		require.Equal(t, []string{"ns/api"}, f.settle())
		_, err := f.kube.DiscoveryV1().EndpointSlices("ns").Create(background, newSlice(endpoint("10.0.0.1", true)), metav1.CreateOptions{})
		require.NoError(t, err)
		require.Equal(t, []string{"ns/api"}, f.settle())
	})
}

func TestFollowersOfTheOldTargetAreNotified(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newObject("ns", "api", named("api"))
		api.Object["spec"].(map[string]any)["triggers"] = []any{follows("asr")}
		so := newObject("ns", "asr-scaled", named("asr"))
		f := newFixture(t, Options{}, so, api,
			newDeployment("ns", "asr", 4, app("asr")), newDeployment("ns", "b", 4, app("b")), newDeployment("ns", "api", 1, app("api"))).run()
		f.settle()
		so.Object["spec"].(map[string]any)["scaleTargetRef"] = named("b")
		f.apply(so)
		require.Equal(t, []string{"ns/api", "ns/asr-scaled"}, f.settle())
	})
}
