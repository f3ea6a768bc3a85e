package keda

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// outage is watched for longer than the 5 s after which a silent target counts
// as unknown.
const outage = 7 * time.Second

// Servers that stop answering are unknown, not idle: the value holds, the fleet
// stays awake, KEDA sees no error, and once they are back the value follows.
func TestOutage(t *testing.T) {
	t.Parallel()
	scaler := startScaler(t, anyPort)
	closes := func(i *inference) { i.close() }
	opens := func(t *testing.T, i *inference) { i.open(t) }
	treats := func(m manner) func(*inference) { return func(i *inference) { i.treat(m) } }
	answersAgain := func(_ *testing.T, i *inference) { i.treat(answers) }
	for name, tc := range map[string]struct {
		hit    int // how many of the three servers the outage hits
		begins func(*inference)
		ends   func(*testing.T, *inference)
	}{
		"all are gone":       {3, closes, opens},
		"one is gone":        {1, closes, opens},
		"all fail":           {3, treats(fails), answersAgain},
		"all hang":           {3, treats(hangs), answersAgain},
		"one hangs":          {1, treats(hangs), answersAgain},
		"all expose nothing": {3, func(i *inference) { i.set(nil) }, answersAgain},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			servers := startFleet(t, vllm(6, 3), vllm(3, 3), vllm(2, 3))
			k := newScaler(t, config(t, trigger{"engine": "vllm"}.at(scaler.grpc, servers)))
			metric := spec(t, k).Metric.Name
			settles(t, k, metric, "11", true)

			servers[:tc.hit].each(tc.begins)
			require.Never(t, func() bool {
				// An answer comes from memory, however long the servers hang.
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				got, ok := read(ctx, k, metric)
				return !ok || got.value.MilliValue() < 11000 || !got.active
			}, outage, tick)

			servers.each(func(i *inference) { i.set(vllm(1, 0)) })
			servers[:tc.hit].each(func(i *inference) { tc.ends(t, i) })
			settles(t, k, metric, "3", true)
			servers.each(func(i *inference) { i.set(vllm(9, 0)) })
			settles(t, k, metric, "27", true)
		})
	}
}
