package keda

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Wrong metadata is refused with everything that is wrong in one message. KEDA
// logs that message, makes no HPA and starts no loop: its client has no spec.
func TestWrongMetadata(t *testing.T) {
	t.Parallel()
	scaler := startScaler(t, anyPort)
	for name, tc := range map[string]struct {
		metadata trigger
		says     []string
	}{
		"every fault at once": {
			trigger{"engine": "vllm", "target": "0", "interval": "0", "inflightQuerry": "x", "treshold": "5"},
			[]string{`target`, `interval`, `"0"`, `inflightQuerry`, `inflightQuery`, `treshold`},
		},
		"a typo of the target": {trigger{"engine": "vllm", "targt": "3"}, []string{`targt`, `"target"`}},
		"an unknown engine":    {trigger{"engine": "vlm"}, []string{`engine`, `vlm`, `vllm`}},
		"no engine, no query":  {trigger{}, []string{`engine`, `query`}},
		"a query that is none": {trigger{"query": "sum(", "target": "5"}, []string{`query`, `sum(`}},
		"a target of words":    {trigger{"engine": "vllm", "target": "many"}, []string{`target`, `many`}},
		"no replica at all":    {trigger{"engine": "vllm", "endpoints": "nowhere"}, []string{`endpoints`, `nowhere`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			metadata := tc.metadata.at(scaler.grpc, startFleet(t, vllm(1, 0)))
			client := direct(t, scaler)

			_, err := client.GetMetricSpec(t.Context(), ref(t, metadata))
			require.Equal(t, codes.InvalidArgument, status.Code(err), "%v", err)
			for _, part := range tc.says {
				require.Contains(t, status.Convert(err).Message(), part)
			}
			_, err = client.GetMetrics(t.Context(), request(t, metadata, "any"))
			require.Equal(t, codes.InvalidArgument, status.Code(err), "%v", err)
			_, err = client.IsActive(t.Context(), ref(t, metadata))
			require.Equal(t, codes.InvalidArgument, status.Code(err), "%v", err)

			k := newPushScaler(t, config(t, metadata))
			require.Nil(t, k.GetMetricSpecForScaling(t.Context()))
			_, _, err = k.GetMetricsAndActivity(t.Context(), "s0-any")
			require.Error(t, err)
		})
	}
}

// The streams refuse wrong metadata too, instead of staying open and silent.
func TestWrongMetadataOnStreams(t *testing.T) {
	t.Parallel()
	scaler := startScaler(t, anyPort)
	metadata := trigger{"engine": "vllm", "target": "-1"}.at(scaler.grpc, startFleet(t, vllm(1, 0)))
	client := direct(t, scaler)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	active, err := client.StreamIsActive(ctx, ref(t, metadata))
	require.NoError(t, err)
	_, err = active.Recv()
	require.Equal(t, codes.InvalidArgument, status.Code(err), "%v", err)
	specs, err := client.StreamMetricSpec(ctx, ref(t, metadata))
	require.NoError(t, err)
	_, err = specs.Recv()
	require.Equal(t, codes.InvalidArgument, status.Code(err), "%v", err)
}
