package e2e

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/test/e2e/inference"
)

const (
	sideRounds = 3
	// The load of a round asks for sideEnough replicas, once it has been there for a
	// while, and for 1 before and after.
	sideEnough = 5
	sideSlots  = 8
	sideLoad   = time.Minute
)

// side is one way to scale a fleet.
type side struct {
	name  string
	fleet *fleet
	// signal is how many replicas its metric asks for at this moment, as the HPA
	// would read it.
	signal func() int

	signalled, first, enough, waits []time.Duration
	gpuSeconds                      float64
}

// The same load on the same pods, scaled by four ways side by side, with the HPA's
// default sync period. The table that is printed is in the README.
func TestSideBySide(t *testing.T) {
	s := begin(t)
	s.setSync(defaultSync)
	p := s.startPrometheus(map[string]string{"guide": "2s", "fast": "2s", "usual": "15s"})

	one := func(name string, w workload) *side {
		w.Replicas, w.Slots, w.Startup, w.Drain = 1, sideSlots, 5*time.Second, 20*time.Second
		return &side{name: name, fleet: s.fleet(w)}
	}
	ours := one("inference-scaler", workload{Name: "ours"})
	fast := one("KEDA prometheus, 2 s scrapes", workload{Name: "fast"})
	usual := one("KEDA prometheus, 15 s scrapes", workload{Name: "usual"})
	guide := one("prometheus-adapter and an HPA, 2 s scrapes", workload{Name: "guide", HPA: "guide"})
	sides := []*side{ours, fast, usual, guide}

	ours.fleet.scale(sideSpec(push("engine: lightning-asr", "hold: 5s")))
	ours.signal = func() int { return ours.fleet.ask().Wanted }
	for _, keda := range []*side{fast, usual} {
		p.reads(keda.fleet.Name, keda.fleet)
		query := fmt.Sprintf(`sum({__name__=~"asr_active_requests|asr_batch_queue_depth",deployment=%q})`, keda.fleet.Name)
		keda.fleet.scale(sideSpec(fmt.Sprintf(`  - type: prometheus
    metadata: {serverAddress: "%s", query: '%s', threshold: "5"}
`, p.url, query)))
		keda.signal = p.asksFor(query)
	}
	p.reads(guide.fleet.Name, guide.fleet)
	const active = `sum(asr_active_requests{deployment="guide"})`
	s.wait("Prometheus has read the guide's fleet", func() error {
		_, err := p.query(active)
		return err
	})
	p.startAdapter()
	guide.fleet.applyHPA()
	guide.signal = p.asksFor(active)

	for round := range sideRounds {
		s.sideRound(round, sides)
	}
	require.NotContains(t, ours.enough, neverCame)
	t.Logf("\n%s", sideTable(sides))
}

// asksFor is how many replicas a query of Prometheus asks for at the moment.
func (p *prometheus) asksFor(query string) func() int {
	return func() int {
		value, err := p.query(query)
		if err != nil {
			return -1
		}
		return int(math.Ceil(value / 5))
	}
}

func sideSpec(triggers string) string {
	return `
minReplicaCount: 1
maxReplicaCount: 8
advanced:
  horizontalPodAutoscalerConfig:
    behavior: {` + sideBehavior + `}
triggers:
` + triggers
}

const sideBehavior = `scaleUp: {tolerance: "0", stabilizationWindowSeconds: 0, policies: [{type: Pods, value: 100, periodSeconds: 1}]}, scaleDown: {tolerance: "0", stabilizationWindowSeconds: 15, policies: [{type: Pods, value: 100, periodSeconds: 1}]}`

// applyHPA gives the fleet the guide's HPA, on the custom metric of its pods.
func (f *fleet) applyHPA() {
	f.Helper()
	f.object = fmt.Sprintf(`apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: %[1]s}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: %[1]s}
  minReplicas: 1
  maxReplicas: 8
  behavior: {%[2]s}
  metrics:
    - type: Pods
      pods: {metric: {name: asr_active_requests}, target: {type: AverageValue, averageValue: "5"}}
`, f.Name, sideBehavior)
	f.apply(f.object)
}

// sideRound gives all fleets the same load at once, and waits until each has
// followed it up and down.
func (s *scenario) sideRound(round int, sides []*side) {
	s.Helper()
	for _, one := range sides {
		one.fleet.gateway.Mark()
	}
	// Each HPA has its own moment in the sync period. The rounds begin at moments
	// that are spread evenly over it, whatever became of the one before.
	phase := time.Duration(time.Now().UnixNano()) % defaultSync
	s.pause((defaultSync + time.Duration(round)*defaultSync/sideRounds - phase) % defaultSync)
	var g sync.WaitGroup
	for _, one := range sides {
		f := one.fleet
		held := f.gateway.Stats().GPUSeconds
		begun := time.Now()
		f.note("round %d", round+1)
		stop := f.load(inference.Load{PerSecond: 12, Service: 2 * time.Second, Jitter: true, Seed: uint64(round)})
		g.Go(func() {
			f.pause(sideLoad)
			stop()
		})
		g.Go(func() {
			signalled := one.when(begun, func() bool { return one.signal() > 1 })
			first := one.when(begun, func() bool { return f.present().Replicas > 1 })
			enough := one.when(begun, func() bool { return f.present().Replicas >= sideEnough })
			one.signalled = append(one.signalled, <-signalled)
			one.first = append(one.first, <-first)
			one.enough = append(one.enough, <-enough)
			f.until("the load is over, and all requests are done", func(m moment) bool {
				return time.Since(begun) > sideLoad && m.InFlight() == 0
			})
			f.atReplicas(1)
			f.until("the others are gone", func(m moment) bool { return m.Servers == 1 })
			one.waits = append(one.waits, f.gateway.Stats().LatestWait)
			one.gpuSeconds += f.gateway.Stats().GPUSeconds - held
		})
	}
	g.Wait()
	if s.Failed() {
		s.FailNow() // the failure is logged already
	}
	for _, one := range sides {
		require.Len(s, one.waits, round+1, one.name)
	}
}

// neverCame is the time of what did not happen while the load lasted.
const neverCame = time.Duration(math.MaxInt64)

// when sends how long after begun a state came, or neverCame.
func (one *side) when(begun time.Time, is func() bool) <-chan time.Duration {
	result := make(chan time.Duration, 1)
	go func() {
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		for time.Since(begun) < sideLoad+defaultSync {
			if is() {
				result <- time.Since(begun)
				return
			}
			<-tick.C
		}
		result <- neverCame
	}()
	return result
}

func sideTable(sides []*side) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| median (worst) of %d | its metric shows it | more than 1 replica wanted | of it after the metric | %d replicas wanted | longest wait of a request | mean GPU-seconds |\n|---|---|---|---|---|---|---|\n",
		sideRounds, sideEnough)
	for _, one := range sides {
		var hpa []time.Duration
		for i := range one.first {
			hpa = append(hpa, max(0, one.first[i]-one.signalled[i]))
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %.0f |\n", one.name,
			seconds(one.signalled), seconds(one.first), seconds(hpa), seconds(one.enough), seconds(one.waits), one.gpuSeconds/sideRounds)
	}
	return b.String()
}

func seconds(all []time.Duration) string {
	one := func(q float64) string {
		if d := quantile(all, q); d < neverCame {
			return fmt.Sprintf("%.1f s", d.Seconds())
		}
		return "never"
	}
	return one(0.5) + " (" + one(1) + ")"
}
