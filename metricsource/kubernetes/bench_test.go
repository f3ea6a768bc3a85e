package kubernetes

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkInventory is what it costs to take the inventory of 1000 nodes, 8000 pods and
// 500 ScaledObjects anew after one pod has come, and after nothing has.
func BenchmarkInventory(b *testing.B) {
	const nodes, pods, objects = 1000, 8000, 500
	ix := newIndex([]string{""})
	ix.markSynced("")
	ix.setAutoscalers(&autoscalers{})
	trimmed := func(obj any, err error) any {
		require.NoError(b, err)
		return obj
	}
	for i := range nodes {
		ix.setNode(trimmed(trimNode(newNode(fmt.Sprintf("node-%04d", i), "8"))).(*node))
	}
	for i := range objects {
		name := fmt.Sprintf("w%03d", i)
		ns := fmt.Sprintf("ns%d", i%50)
		ix.setTarget(trimmed(trimTarget(newDeployment(ns, name, 16, app(name)))).(*target))
		ix.setObject(trimmed(trimScaledObject(newObject(ns, name, named(name)))).(*scaledObject))
	}
	bound := func(i int) *pod {
		w := i % objects
		return trimmed(trimPod(newBound(fmt.Sprintf("ns%d", w%50), fmt.Sprintf("p%d", i), fmt.Sprintf("node-%04d", i%nodes), "1", app(fmt.Sprintf("w%03d", w))))).(*pod)
	}
	for i := range pods {
		ix.setPod(bound(i))
	}
	c := &Cluster{index: ix}
	b.Run("pod", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			p := bound(i % pods)
			ix.deletePod(p.Namespace, p.Name)
			ix.setPod(p)
			inv, err := c.Inventory()
			require.NoError(b, err)
			require.Len(b, inv.Nodes, nodes)
		}
	})
	b.Run("nothing", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, err := c.Inventory()
			require.NoError(b, err)
		}
	})
}
