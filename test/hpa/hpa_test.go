package hpa

import (
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/klog/v2"

	"github.com/inference-scaler/inference-scaler/scaler/hpa"
)

// steps is how many periods of 15 s a sequence has: half an hour, the longest period
// of a policy.
const steps = 120

// reasons are all that the model gives.
var reasons = []hpa.Reason{
	hpa.WithinTolerance, hpa.ScalingDisabled, hpa.FailedGetExternalMetric, hpa.ScaleUpStabilized, hpa.ScaleDownStabilized,
	hpa.DesiredWithinRange, hpa.ScaleUpLimit, hpa.ScaleDownLimit, hpa.TooManyReplicas, hpa.TooFewReplicas,
}

// TestModelIsTheController drives the controller and the model with the same random
// sequences, and demands the same replicas and the same conditions after every sync.
// The first sequences are the same in every run, the others are new ones.
// HPA_FIRST=N HPA_SEQUENCES=1 repeats one.
func TestModelIsTheController(t *testing.T) {
	quiet()
	seeds := slices.Collect(seedsFrom(1, 3000))
	if first, ok := fromEnv(t, "HPA_FIRST"); ok {
		n, _ := fromEnv(t, "HPA_SEQUENCES")
		seeds = slices.Collect(seedsFrom(first, max(n, 1)))
	} else {
		first = rand.Uint64N(1 << 32)
		t.Logf("fixed sequences from 1 on, and random ones from HPA_FIRST=%d on", first)
		seeds = slices.AppendSeq(seeds, seedsFrom(first, 1000))
	}
	total := coverage{reasons: map[hpa.Reason]int{}}
	t.Run("sequences", func(t *testing.T) {
		var lock sync.Mutex
		workers := runtime.GOMAXPROCS(0)
		for worker := range workers {
			t.Run(strconv.Itoa(worker), func(t *testing.T) {
				t.Parallel()
				for i := worker; i < len(seeds); i += workers {
					seen := sequence(t, seeds[i])
					lock.Lock()
					total.add(seen)
					lock.Unlock()
				}
			})
		}
	})
	t.Logf("%d sequences, %d syncs without a difference: %d with another status.replicas than spec.replicas, %d without a pod, %d without behavior, %d with a failed metric among others, %d at once after a change of the spec; by reason: %v",
		len(seeds), total.syncs, total.lagging, total.podless, total.plain, total.partial, total.prompt, total.reasons)
	if len(seeds) < 1000 {
		return
	}
	require.Greater(t, total.syncs, len(seeds)*steps)
	for _, n := range []int{total.lagging, total.podless, total.plain, total.partial, total.prompt} {
		require.Greater(t, n, len(seeds))
	}
	require.ElementsMatch(t, reasons, slices.Collect(maps.Keys(total.reasons)))
}

// sequence plays one, in a time of its own.
func sequence(t *testing.T, seed uint64) (seen coverage) {
	synctest.Test(t, func(t *testing.T) {
		d := draw{rand.New(rand.NewPCG(seed, 1))}
		p := newPair(t, seed, d)
		p.start(t)
		for range steps {
			p.step(d)
		}
		p.stop()
		seen = p.seen
	})
	return seen
}

// coverage counts syncs by what they show.
type coverage struct {
	syncs, lagging, podless, plain, partial, prompt int
	reasons                                         map[hpa.Reason]int
}

func (c *coverage) add(other coverage) {
	c.syncs += other.syncs
	c.lagging += other.lagging
	c.podless += other.podless
	c.plain += other.plain
	c.partial += other.partial
	c.prompt += other.prompt
	for reason, n := range other.reasons {
		c.reasons[reason] += n
	}
}

func seedsFrom(first, n uint64) func(yield func(uint64) bool) {
	return func(yield func(uint64) bool) {
		for i := range n {
			if !yield(first + i) {
				return
			}
		}
	}
}

func fromEnv(t *testing.T, name string) (uint64, bool) {
	text := os.Getenv(name)
	if text == "" {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 64)
	require.NoError(t, err, name)
	return n, true
}

// quiet drops the controller's log: metrics fail on purpose.
func quiet() {
	utilruntime.ErrorHandlers = nil
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
}
