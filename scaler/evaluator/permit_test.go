package evaluator

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
)

// onePod is a cluster with one pod, in namespace asr.
type onePod struct {
	Cluster
	ip netip.Addr
}

func (c onePod) HasPod(namespace string, addr netip.Addr) bool {
	return namespace == "asr" && addr == c.ip
}

func TestPermit(t *testing.T) {
	pod, other := netip.MustParseAddr("10.0.1.1"), netip.MustParseAddr("10.0.9.9")
	allowed := netip.MustParseAddr("192.0.2.1")
	p := newPermit(Options{Cluster: onePod{ip: pod}, Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, "asr")
	require.NoError(t, p.namespace(pod), "a pod of the namespace")
	require.NoError(t, p.namespace(allowed))
	require.ErrorContains(t, p.namespace(other), "no pod of namespace asr")
	require.ErrorContains(t, p.namespace(netip.MustParseAddr("127.0.0.1")), "no pod of namespace asr")
	require.ErrorContains(t, newPermit(Options{Cluster: onePod{ip: pod}}, "llm").namespace(pod), "no pod of namespace llm")

	require.ErrorContains(t, p.workload(pod), "no pod of this workload", "its pods are not known yet")
	p.allowOnly([]cluster.Pod{{IP: pod.String(), Phase: "Running"}, {IP: other.String(), Phase: "Succeeded"}})
	require.NoError(t, p.workload(pod))
	require.NoError(t, p.workload(allowed))
	require.ErrorContains(t, p.workload(other), "no pod of this workload", "it has finished")
	p.allowOnly(nil)
	require.Error(t, p.workload(pod), "another workload may have its address now")

	anywhere := newPermit(Options{}, "asr")
	require.NoError(t, anywhere.workload(other), "without Kubernetes")
	for _, never := range []string{"169.254.169.254", "fe80::1", "224.0.0.1", "0.0.0.0"} {
		for _, permit := range []func(netip.Addr) error{p.namespace, p.workload, anywhere.namespace, anywhere.workload} {
			require.ErrorContains(t, permit(netip.MustParseAddr(never)), "never read", never)
		}
	}
}
