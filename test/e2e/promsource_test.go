package e2e

import (
	"encoding/base64"
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/labels"
)

// frontAddresses are the addresses where the API server of that name exports its demand.
func (f *fleet) frontAddresses(name string) func() map[string]string {
	return func() map[string]string {
		pods, _ := f.informers.Core().V1().Pods().Lister().Pods(f.namespace).List(labels.SelectorFromSet(labels.Set{"app": name}))
		all := map[string]string{}
		for _, pod := range pods {
			if pod.Status.PodIP != "" {
				all[pod.Name] = pod.Status.PodIP + ":7100"
			}
		}
		return all
	}
}

// queuedAt is the demand that waits at the API servers of a fleet, as Prometheus has it.
func (f *fleet) queuedAt() string {
	return fmt.Sprintf(`sum(demand_queued_requests{namespace=%q,deployment=%q})`, f.namespace, f.Name)
}

// asked is a trigger whose queries the Prometheus answers.
func (p *prometheus) asked(metadata ...string) string {
	return push(append([]string{"prometheusAddress: " + p.url, "interval: 1s", "hold: 5s"}, metadata...)...)
}

// caSecret is the manifest of a Secret with the CA of a Prometheus of this machine.
func caSecret(name string, ca []byte) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Secret
metadata: {name: %s, annotations: {inference-scaler/allow-host: "https://127.0.0.1"}}
data: {ca.crt: %s}
`, name, base64.StdEncoding.EncodeToString(ca))
}

// A query of Prometheus wakes the fleet and sizes it, beside the readings of its pods;
// a Prometheus that goes leaves it as it is.
func TestWakesByPrometheus(t *testing.T) {
	t.Parallel()
	s := begin(t)
	p := s.startPrometheus(map[string]string{"front": "1s"})
	f := s.fleet(workload{Replicas: 0, Startup: 3 * time.Second})
	f.front("api")
	p.discovers("front", f, f.frontAddresses("api"))
	f.scale(quick{max: 10, triggers: push("engine: lightning-asr", "hold: 5s") +
		p.asked("query: '"+f.queuedAt()+"'", `target: "5"`)}.String())
	f.never("asleep with work in flight, once awake", func(m moment) bool { return m.Replicas == 0 && m.Running+m.Waiting > 0 })
	f.stays(0, 5*time.Second)
	f.burst(18)
	f.atReplicas(4)
	f.ready(4)
	f.stays(4, 10*time.Second)
	f.finish()
	f.atReplicas(0)
}

// GPU utilisation from a DCGM exporter, through a Prometheus that speaks TLS and
// refuses requests without a password. 2 pods at 100 % and an objective of 70 % are 3
// replicas, and stay 3 when the third has nothing to do.
func TestGPUUtilisation(t *testing.T) {
	t.Parallel()
	s := begin(t)
	const user, password = "scaler", "of-the-scenarios"
	p, ca := s.startSecure(map[string]string{"dcgm": "1s"}, user, password)
	f := s.fleet(workload{Replicas: 2, Slots: 8})
	exporter := httptest.NewServer(f.gateway.DCGM(f.namespace))
	t.Cleanup(exporter.Close)
	p.discovers("dcgm", f, func() map[string]string { return map[string]string{"dcgm": exporter.Listener.Addr().String()} })
	s.apply(fmt.Sprintf(`apiVersion: v1
kind: Secret
metadata: {name: prometheus, annotations: {inference-scaler/allow-host: "https://127.0.0.1"}}
stringData: {username: %s, password: %s}
`, user, password) + "---\n" + caSecret("ca", ca))
	f.burst(16)
	f.until("both pods are busy", func(m moment) bool { return m.Running == 16 })
	utilisation := fmt.Sprintf(`sum(DCGM_FI_DEV_GPU_UTIL{namespace=%q,pod=~"%s-.*"})`, f.namespace, f.Name)
	f.scale(quick{min: 1, max: 6, triggers: p.asked("query: '"+utilisation+"'", `target: "70"`, "authSecret: prometheus", "caSecret: ca")}.String())
	f.ready(3)
	f.stays(3, 10*time.Second)
	f.finish()
	f.atReplicas(1)
}
