package kubernetes

import (
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func podAt(ns, name, ip string) *corev1.Pod {
	p := newPod(ns, name, app("api"))
	p.Status.PodIP = ip
	return p
}

func newService(ports ...corev1.ServicePort) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "api"}, Spec: corev1.ServiceSpec{Ports: ports}}
}

// newSlice is an EndpointSlice of the Service api with its port http at 7100.
func newSlice(endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	name, port := "http", int32(7100)
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "api-x", Labels: map[string]string{discoveryv1.LabelServiceName: "api"}},
		Ports:      []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
		Endpoints:  endpoints,
	}
}

func endpoint(ip string, serving bool) discoveryv1.Endpoint {
	return discoveryv1.Endpoint{Addresses: []string{ip}, Conditions: discoveryv1.EndpointConditions{Serving: &serving}}
}

func TestEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reads := newObject("ns", "reads", named("asr"))
		reads.Object["spec"].(map[string]any)["triggers"] = []any{
			map[string]any{"type": "external-push", "metadata": map[string]any{"upstream": "service/api:80"}},
		}
		f := newFixture(t, Options{}, reads, newObject("ns", "other", named("asr")), newDeployment("ns", "asr", 0, app("asr")),
			newService(corev1.ServicePort{Name: "http", Port: 80}),
			newSlice(endpoint("10.0.0.1", true), endpoint("10.0.0.2", false), endpoint("10.9.9.9", true)),
			podAt("ns", "api-0", "10.0.0.1"), podAt("ns", "api-1", "10.0.0.2"), podAt("elsewhere", "x", "10.9.9.9"))
		_, err := f.cluster.Endpoints("ns", "api", "80")
		require.ErrorIs(t, err, cluster.ErrNotSynced)
		f.run()
		f.settle()

		at := func(port string) []cluster.Endpoint {
			t.Helper()
			all, err := f.cluster.Endpoints("ns", "api", port)
			require.NoError(t, err)
			return all
		}
		want := []cluster.Endpoint{{IP: "10.0.0.1", Port: 7100}}
		require.Equal(t, want, at("80"), "serving, and a pod of this namespace")
		require.Equal(t, want, at("http"))
		require.Equal(t, []cluster.Endpoint{{IP: "10.0.0.1", Port: 9090}}, at("9090"), "the pods' own")
		require.Empty(t, at("grpc"), "no such port")
		_, err = f.cluster.Endpoints("ns", "nothing", "80")
		require.ErrorIs(t, err, cluster.ErrNotFound)
		_, err = f.cluster.Endpoints("elsewhere", "api", "80")
		require.ErrorIs(t, err, cluster.ErrNotFound, "of its own namespace only")

		require.True(t, f.cluster.HasPod("ns", netip.MustParseAddr("10.0.0.1")))
		require.False(t, f.cluster.HasPod("ns", netip.MustParseAddr("10.9.9.9")))

		_, err = f.kube.DiscoveryV1().EndpointSlices("ns").Update(background, newSlice(endpoint("10.0.0.2", true)), metav1.UpdateOptions{})
		require.NoError(t, err)
		require.Equal(t, []string{"ns/reads"}, f.settle(), "triggers that name the Service are notified")
		require.Equal(t, []cluster.Endpoint{{IP: "10.0.0.2", Port: 7100}}, at("80"))

		f.apply(podAt("ns", "api-1", "10.0.0.3"))
		require.Equal(t, []string{"ns/reads"}, f.settle(), "its address is no pod's any more")
		require.Empty(t, at("80"))
	})
}

// The primary address of a pod may be of the other family than its Service.
func TestDualStack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := podAt("ns", "api-0", "10.0.0.1")
		p.Status.PodIPs = []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}}
		of := func(name, ip string) *discoveryv1.EndpointSlice {
			e := endpoint(ip, true)
			e.TargetRef = &corev1.ObjectReference{Kind: "Pod", Name: p.Name, UID: p.UID}
			s := newSlice(e)
			s.Name = name
			return s
		}
		f := newFixture(t, Options{}, newService(corev1.ServicePort{Name: "http", Port: 80}), of("api-v6", "fd00::1"), p).run()
		all, err := f.cluster.Endpoints("ns", "api", "80")
		require.NoError(t, err)
		require.Len(t, all, 1)
		require.Equal(t, "fd00::1", all[0].IP)
		require.True(t, f.cluster.HasPod("ns", netip.MustParseAddr("fd00::1")))

		_, err = f.kube.DiscoveryV1().EndpointSlices("ns").Create(background, of("api-v4", "10.0.0.1"), metav1.CreateOptions{})
		require.NoError(t, err)
		f.settle()
		all, err = f.cluster.Endpoints("ns", "api", "80")
		require.NoError(t, err)
		require.Len(t, all, 1, "a Service of both families: each pod is read once")
		require.Equal(t, "10.0.0.1", all[0].IP)
	})
}
