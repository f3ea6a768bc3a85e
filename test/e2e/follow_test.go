package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// The API tier is sized by the ASR tier at the same instant, within the ASR tier's
// bounds. A load of 150 at a target of 5 and at most 10 replicas is 5 API pods at 2 to
// 1, and not 15. It shrinks once the ASR pods that it serves are gone.
func TestAPITierFollows(t *testing.T) {
	t.Parallel()
	s := begin(t)
	asr := s.fleet(workload{Replicas: 1, Drain: 10 * time.Second})
	api := s.fleet(workload{Name: "api", Replicas: 1})
	api.scale(quick{min: 1, max: 20, triggers: push("follow: lightning-asr", `ratio: "2"`)}.String())
	asr.scale(quick{min: 1, max: 10, triggers: push("engine: lightning-asr", "hold: 1s")}.String())
	api.never("more than 5 API pods", func(m moment) bool { return m.Replicas > 5 })
	api.stays(1, 5*time.Second)
	begun := time.Now()
	asr.burst(150)
	enough := api.atReplicas(5)
	full := asr.atReplicas(10)
	api.figure("5 API pods %.1f s after the burst, 10 of the ASR after %.1f s", enough.Sub(begun).Seconds(), full.Sub(begun).Seconds())
	asr.ready(10)
	api.stays(5, 5*time.Second)
	api.never("fewer API pods than the ASR pods there are need", func(m moment) bool { return 2*m.Replicas < asr.gateway.Stats().Servers })
	asr.finish()
	asr.atReplicas(1)
	api.atReplicas(1)
}

// ServeHTTP answers as kube-state-metrics does of the fleet's Deployment.
func (f *fleet) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	d, err := f.informers.Apps().V1().Deployments().Lister().Deployments(f.namespace).Get(f.Name)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = fmt.Fprintf(w, "# TYPE kube_deployment_status_replicas gauge\nkube_deployment_status_replicas{namespace=%q,deployment=%q} %d\n", f.namespace, f.Name, d.Status.Replicas)
}

// Two API tiers behind one ASR tier: ours, and one that is sized as the guide does it,
// by kube_deployment_status_replicas through a Prometheus with 15 s scrapes. The HPAs
// sync every second here: what differs is when the metric knows.
func TestAPITierSideBySide(t *testing.T) {
	t.Parallel()
	s := begin(t)
	p := s.startPrometheus(map[string]string{"state": "15s"})
	asr := s.fleet(workload{Replicas: 1})
	ours, guide := s.fleet(workload{Name: "ours", Replicas: 1}), s.fleet(workload{Name: "guide", Replicas: 1})
	exporter := httptest.NewServer(asr)
	t.Cleanup(exporter.Close)
	p.discovers("state", asr, func() map[string]string {
		return map[string]string{"kube-state-metrics": exporter.Listener.Addr().String()}
	})
	asr.scale(quick{min: 1, max: 10, triggers: push("engine: lightning-asr", "hold: 1s")}.String())
	ours.scale(quick{min: 1, max: 10, triggers: push("follow: lightning-asr", `ratio: "2"`)}.String())
	query := fmt.Sprintf(`sum(kube_deployment_status_replicas{namespace=%q,deployment="lightning-asr"})`, s.namespace)
	s.wait("Prometheus has read it", func() error {
		n, err := p.query(query)
		if err == nil && n != 1 {
			err = fmt.Errorf("%v replicas", n)
		}
		return err
	})
	guide.scale(quick{min: 1, max: 10, triggers: fmt.Sprintf(`  - type: prometheus
    metadata: {serverAddress: "%s", query: '%s', threshold: "2"}
`, p.url, query)}.String())
	for round := range 3 {
		s.pause(time.Duration(round*4) * time.Second) // at another moment of Prometheus' interval
		asr.burst(50)
		full := asr.atReplicas(10)
		lag := func(f *fleet) float64 { return f.atReplicas(5).Sub(full).Seconds() }
		mine := lag(ours)
		guide.figure("round %d: 5 API pods %.1f s after the ASR had 10 by following it, %.1f s by the guide's metric", round+1, mine, lag(guide))
		asr.ready(10)
		asr.finish()
		for _, f := range []*fleet{asr, ours, guide} {
			f.atReplicas(1)
		}
	}
}
