package e2e

import (
	"testing"
	"time"
)

// The API tier is sized by the ASR tier at the same instant, and by what that may
// have: a load of 150 at a target of 5 and at most 10 replicas is 5 API pods at 2 to
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
