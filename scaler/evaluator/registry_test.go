package evaluator

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	"github.com/inference-scaler/inference-scaler/metricsource/scrape"
)

var fleet = cluster.NamespacedName{Namespace: "asr", Name: "fleet"}

// without is an evaluator without Kubernetes, whose scraper reads nothing.
func without(t *testing.T) *Evaluator {
	e := New(Options{Scraper: scrape.New(scrape.Options{})})
	t.Cleanup(e.Close)
	return e
}

// Triggers with the same hash are distinguished by their metadata.
func TestTriggersOfOneHash(t *testing.T) {
	e := without(t)
	first, second := map[string]string{"engine": "vllm", "endpoints": "a:1"}, map[string]string{"engine": "vllm", "endpoints": "b:1", "target": "7"}
	open := func(metadata map[string]string) *Trigger {
		found, err := e.Lookup(fleet.Namespace, fleet.Name, metadata)
		require.NoError(t, err)
		return found
	}
	a, b := open(first), open(second)
	require.NotSame(t, a, b)
	e.triggers.byHash.Store(hash(fleet, first), b) // as if they shared it
	require.Nil(t, e.triggers.find(fleet, first))
	require.Same(t, a, open(first))
	require.Same(t, b, open(second))
	require.Len(t, e.triggers.all(), 2)
	require.Equal(t, 2, e.triggers.undeclared)
	for _, open := range e.triggers.removeAll(fleet) {
		open.close()
	}
	require.Empty(t, e.triggers.all())
	require.Zero(t, e.triggers.count)
	require.Zero(t, e.triggers.undeclared)
}

// Two triggers of one ScaledObject whose short labels are equal get distinct ones.
func TestTriggersOfOneLabel(t *testing.T) {
	e := without(t)
	metadata := func(i int) map[string]string {
		return map[string]string{"engine": "lightning-asr", "endpoints": "10.0.0.1:9090", "activation": strconv.Itoa(i)}
	}
	seen := map[string]int{}
	for i := 1; ; i++ {
		l := label("lightning-asr", key(fleet, metadata(i)), nil)
		j, found := seen[l]
		if !found {
			seen[l] = i
			continue
		}
		one, err := e.Lookup(fleet.Namespace, fleet.Name, metadata(j))
		require.NoError(t, err)
		two, err := e.Lookup(fleet.Namespace, fleet.Name, metadata(i))
		require.NoError(t, err)
		require.Equal(t, l, one.label)
		require.NotEqual(t, one.label, two.label)
		return
	}
}

// forgetful is a cluster whose ScaledObject is deleted after it was looked at once.
type forgetful struct {
	Cluster
	metadata map[string]string
	asked    int
}

func (c *forgetful) ScaledObject(string, string) (cluster.ScaledObject, error) {
	if c.asked++; c.asked > 1 {
		return cluster.ScaledObject{}, cluster.ErrNotFound
	}
	return cluster.ScaledObject{Triggers: []cluster.ScaledObjectTrigger{{Metadata: c.metadata}}}, nil
}

func (*forgetful) Workload(string, string) (cluster.Workload, error) {
	return cluster.Workload{}, cluster.ErrNotFound
}

// A ScaledObject is deleted while a call opens its trigger: the trigger must not stay
// declared, for no event comes that would correct it.
func TestDeclarationThatEndsDuringOpening(t *testing.T) {
	metadata := map[string]string{"engine": "lightning-asr"}
	e := New(Options{Cluster: &forgetful{metadata: metadata}, Scraper: scrape.New(scrape.Options{})})
	t.Cleanup(e.Close)
	opened, err := e.Lookup(fleet.Namespace, fleet.Name, metadata)
	require.NoError(t, err)
	require.False(t, opened.declared.Load())
	require.Equal(t, 1, e.triggers.undeclared)
}
