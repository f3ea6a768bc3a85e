package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const zeroRounds = 3

// waker is one way to wake a fleet from zero.
type waker struct {
	name  string
	fleet *fleet
	took  []time.Duration // from the first arrival to the write of spec.replicas
}

// The same first requests to fleets at zero, which wake by five ways. The table that
// is printed is in the README.
func TestFromZeroSideBySide(t *testing.T) {
	s := begin(t)
	p := s.startPrometheus(map[string]string{"prom": "1s", "fast": "1s", "usual": "15s"})
	one := func(name, workloadName string, spec func(f *fleet) string) *waker {
		f := s.fleet(workload{Name: workloadName, Replicas: 0, Slots: 8})
		api := "api-" + workloadName
		f.front(api)
		if workloadName == "prom" || workloadName == "fast" || workloadName == "usual" {
			p.discovers(workloadName, f, f.frontAddresses(api))
		}
		f.scale(spec(f))
		return &waker{name: name, fleet: f}
	}
	ours := func(trigger func(f *fleet) string) func(f *fleet) string {
		return func(f *fleet) string { return quick{max: 10, triggers: trigger(f)}.String() }
	}
	keda := func(polling int) func(f *fleet) string {
		return func(f *fleet) string {
			spec := quick{max: 10, triggers: fmt.Sprintf(`  - type: prometheus
    metadata: {serverAddress: "%s", query: '%s', threshold: "5"}
`, p.url, strings.Replace(f.queuedAt(), "queued", "inflight", 1))}.String()
			return strings.Replace(spec, "pollingInterval: 1\n", fmt.Sprintf("pollingInterval: %d\n", polling), 1)
		}
	}
	all := []*waker{
		one("inference-scaler, reported", "reported", ours(func(*fleet) string { return push("engine: lightning-asr", "hold: 1s") })),
		one("inference-scaler, `upstream` read", "upstream", ours(func(*fleet) string {
			return push("engine: lightning-asr", "hold: 1s", "upstream: service/api-upstream:http")
		})),
		one("inference-scaler, `prometheusAddress`, 1 s interval, 1 s scrapes", "prom", ours(func(f *fleet) string {
			return push("engine: lightning-asr", "hold: 1s") + p.asked("query: '"+f.queuedAt()+"'", `target: "5"`)
		})),
		one("KEDA prometheus, 1 s polling, 1 s scrapes", "fast", keda(1)),
		one("KEDA prometheus, its defaults: 30 s polling, 15 s scrapes", "usual", keda(30)),
	}
	all[0].fleet.reporting()
	for round := range zeroRounds {
		var g sync.WaitGroup
		for _, w := range all {
			g.Go(func() { w.round(s) })
		}
		g.Wait()
		if s.Failed() {
			s.FailNow() // the failure is logged already
		}
		// The next round begins at another moment of the others' polling.
		s.pause(time.Duration(round*7+3) * time.Second)
	}
	t.Logf("\n%s", zeroTable(all))
}

// round waits until the fleet is asleep, wakes it and has it done again.
func (w *waker) round(s *scenario) {
	f := w.fleet
	f.atReplicas(0)
	f.stays(0, 2*time.Second)
	begun := time.Now()
	f.burst(8)
	for n := 0; n == 0; time.Sleep(time.Millisecond) {
		var err error
		n, err = f.replicas()
		require.NoError(s, err)
		require.Less(s, time.Since(begun), patience)
	}
	w.took = append(w.took, time.Since(begun))
	f.ready(2)
	f.finish()
	f.atReplicas(0)
}

func zeroTable(all []*waker) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| from the first request at zero to 1 replica, of %d | median | longest |\n|---|---|---|\n", zeroRounds)
	for _, w := range all {
		fmt.Fprintf(&b, "| %s | %.2f s | %.2f s |\n", w.name, quantile(w.took, 0.5).Seconds(), quantile(w.took, 1).Seconds())
	}
	return b.String()
}
