package kubernetes

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime"
)

// BenchmarkInventory builds the inventory of 1000 nodes, 8000 pods and 500 ScaledObjects,
// after one pod was created and after no change.
func BenchmarkInventory(b *testing.B) {
	const nodes, pods, objects = 1000, 8000, 500
	var all []runtime.Object
	for i := range nodes {
		all = append(all, newNode(fmt.Sprintf("node-%04d", i), "8"))
	}
	c := newCluster(newFakeClients(all...), Options{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.inventory.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		require.NoError(b, <-done)
	})
	require.Eventually(b, func() bool { _, err := c.Inventory(); return err == nil }, 10*time.Second, time.Millisecond)
	ix := c.index
	ix.markSynced("")
	trimmed := func(obj any, err error) any {
		require.NoError(b, err)
		return obj
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
