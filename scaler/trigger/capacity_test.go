package trigger

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCapacity(t *testing.T) {
	of := func(more ...string) (Capacity, error) {
		m := map[string]string{"engine": "vllm"}
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		tr, err := Parse(m)
		if err != nil {
			return Capacity{}, err
		}
		return tr.Capacity, nil
	}
	got, err := of()
	require.NoError(t, err)
	require.Equal(t, Capacity{Mode: CapacityAuto}, got)
	got, err = of("gpuCapacity", "clamp", "gpuResource", "amd.com/gpu", "gpusPerReplica", "4", "gpuHeadroom", "16")
	require.NoError(t, err)
	require.Equal(t, Capacity{CapacityClamp, "amd.com/gpu", 4, 16}, got)

	for _, tc := range []struct{ key, value, want string }{
		{"gpuCapacity", "on", `gpuCapacity: "on"; wanted: auto, clamp, observe or off`},
		{"gpuResource", "gpu", `gpuResource: "gpu"; wanted: the name of a resource, such as nvidia.com/gpu`},
		{"gpusPerReplica", "0", `gpusPerReplica: "0"; wanted: a whole number from 1 to 1024`},
		{"gpusPerReplica", "0.5", `gpusPerReplica: "0.5"; wanted: a whole number from 1 to 1024`},
		{"gpuHeadroom", "-1", `gpuHeadroom: "-1"; wanted: a whole number from 0 to 1000000`},
	} {
		_, err := of(tc.key, tc.value)
		require.EqualError(t, err, tc.want)
	}
	_, err = of("gpuCapacity", "off", "gpuHeadroom", "3")
	require.EqualError(t, err, "gpuHeadroom: has no effect with gpuCapacity: off")
}
