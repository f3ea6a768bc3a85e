package scaler

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/metricsource/schedule"
)

// chaos is a fleet to which anything may happen, beside a model of what must hold.
type chaos struct {
	*world
	r        *rand.Rand
	metadata map[string]string
	pods     map[string]*chaoticPod
	made     int // pods, so far
	replicas int // as KEDA and the HPA have set them
	demand   int // reported upstream
	moves    int
	api      *apiReporter
	streams  []*chaoticStream
	log      []string
	// The recent loads of each pod, and the largest sum of all.
	had   map[string][]peak
	peaks []peak
	last  float64 // answer
}

type chaoticPod struct {
	server *server
	ip     string
	load   int
	bad    string // how it fails; empty: it answers
	ready  bool
	since  time.Time // it is as it is
}

// silent reports whether the pod has failed for so long that it is unknown.
func (p *chaoticPod) silent() bool {
	return p.bad != "" && p.bad != "not ready" && time.Since(p.since) > chaosStale+settled
}

type chaoticStream struct {
	*messages
	cancel context.CancelFunc
}

type peak struct {
	at    time.Time
	value float64
}

const (
	chaosTarget = 5
	chaosHold   = 2 * time.Second
	chaosStale  = 5 * time.Second // the default, for an interval of 1 s
	// settled is when all that has happened has been seen: pods are read every second,
	// and a reading fails after one at most.
	settled = 3 * time.Second
)

// The invariants of CHAOS_SEEDS random sequences of events, from that of CHAOS_FIRST on:
//   - missing data is never 0;
//   - the answer is never above the demand;
//   - no edge of a stream is lost;
//   - no goroutine is left at the end, which the bubble checks.
func TestChaos(t *testing.T) {
	first, seeds := fromEnv(t, "CHAOS_FIRST", 1), fromEnv(t, "CHAOS_SEEDS", 300)
	for seed := first; seed < first+seeds; seed++ {
		ok := t.Run(fmt.Sprintf("CHAOS_FIRST=%d", seed), func(t *testing.T) {
			inBubble(t, true, func(t *testing.T, w *world) {
				c := &chaos{world: w, r: rand.New(rand.NewPCG(seed, 3)), pods: map[string]*chaoticPod{}, had: map[string][]peak{}}
				c.metadata = map[string]string{"engine": "lightning-asr", "target": "5", "hold": chaosHold.String()}
				c.api = w.reporter()
				c.api.report(0)
				c.observe()
				w.cluster.declare(c.metadata)
				c.pass(time.Second)
				defer func() {
					if t.Failed() {
						for _, line := range c.log {
							t.Log(line)
						}
					}
				}()
				for range 40 {
					c.step()
					c.check()
				}
				for _, s := range c.streams {
					s.cancel()
				}
			})
		})
		if !ok {
			return // one is enough to look at
		}
	}
}

func fromEnv(t *testing.T, name string, otherwise uint64) uint64 {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	require.NoError(t, err, name)
	return n
}

func (c *chaos) note(format string, args ...any) {
	c.log = append(c.log, time.Now().Format("05.000 ")+fmt.Sprintf(format, args...))
}

// observe gives the scaler the present state of the cluster.
func (c *chaos) observe() {
	c.cluster.update(func(w *cluster.Workload) {
		w.Replicas, w.Pods = c.replicas, nil
		for name, p := range c.pods {
			w.Pods = append(w.Pods, pod(name, p.ip, p.ready))
		}
	})
}

// step lets one thing happen, and some time pass.
func (c *chaos) step() {
	switch kind := c.r.IntN(11); kind {
	case 0, 1:
		c.arrive()
	case 2:
		c.leave()
	case 3:
		c.fail()
	case 4:
		c.heal()
	case 5:
		c.shift()
	case 6:
		c.stream()
	case 7:
		c.report()
	case 8:
		c.follow()
	case 9:
		c.sleep()
	case 10:
		c.restartScaler()
	}
	c.remember()
	c.api.report(c.demand) // its heartbeat
	c.pass(time.Duration(c.r.IntN(1500)) * time.Millisecond)
	c.remember()
}

// any returns one of the pods, "" where there is none.
func (c *chaos) any() (string, *chaoticPod) {
	n := len(c.pods)
	if n == 0 {
		return "", nil
	}
	for i := range c.made { // in an order that the seed decides
		name := fmt.Sprintf("pod-%d", (i+c.r.IntN(c.made))%c.made)
		if p := c.pods[name]; p != nil {
			return name, p
		}
	}
	return "", nil
}

func (c *chaos) arrive() {
	if len(c.pods) >= 8 {
		return
	}
	name := fmt.Sprintf("pod-%d", c.made)
	p := &chaoticPod{ip: fmt.Sprintf("10.0.0.%d", c.made+1), load: c.r.IntN(12), ready: true, since: time.Now()}
	c.made++
	p.server = c.network.add(p.ip+":9090", asr(p.load))
	c.pods[name] = p
	c.replicas = max(c.replicas, len(c.pods))
	c.note("%s comes with %d", name, p.load)
	c.observe()
}

func (c *chaos) leave() {
	if name, p := c.any(); p != nil {
		c.note("%s goes", name)
		p.server.fail()
		delete(c.pods, name)
		c.observe()
	}
}

func (c *chaos) fail() {
	name, p := c.any()
	if p == nil || p.bad != "" {
		return
	}
	p.bad, p.since = []string{"down", "hangs", "garbage", "no series", "not ready"}[c.r.IntN(5)], time.Now()
	c.note("%s: %s", name, p.bad)
	switch p.bad {
	case "down":
		p.server.fail()
	case "hangs":
		p.server.set(hangs)
	case "garbage":
		p.server.set("asr_active_requests x\n")
	case "no series":
		p.server.set("something_else 1\n")
	case "not ready": // and answers nevertheless
		p.ready = false
		c.observe()
	}
}

func (c *chaos) heal() {
	name, p := c.any()
	if p == nil || p.bad == "" {
		return
	}
	c.note("%s heals", name)
	if p.bad == "down" {
		p.server = c.network.add(p.ip+":9090", asr(p.load))
	} else {
		p.server.set(asr(p.load))
	}
	p.bad, p.ready = "", true
	p.since = time.Now().Add(schedule.MaxBackOff) // until it is read again
	c.observe()
}

// shift changes the load of a pod that answers: the load of another cannot be known.
func (c *chaos) shift() {
	if name, p := c.any(); p != nil && (p.bad == "" || p.bad == "not ready") {
		p.load, p.since = c.r.IntN(12), time.Now()
		c.note("%s has %d", name, p.load)
		p.server.set(asr(p.load))
	}
}

func (c *chaos) stream() {
	if len(c.streams) > 0 && c.r.IntN(2) == 0 {
		c.streams[0].cancel()
		c.streams = c.streams[1:]
		c.note("a stream breaks")
		return
	}
	c.streams = append(c.streams, c.newStream())
	c.note("a stream opens")
}

func (c *chaos) newStream() *chaoticStream {
	ctx, cancel := context.WithCancel(context.Background())
	return &chaoticStream{c.streamIn(ctx, c.metadata), cancel}
}

// restartScaler replaces the scaler by another, which knows only what it reads and what
// is reported to it. KEDA opens its streams again.
func (c *chaos) restartScaler() {
	c.note("the scaler restarts")
	for _, s := range c.streams {
		s.cancel()
	}
	c.restart()
	if c.replicas > 0 {
		require.True(c.t, c.active(c.metadata), "nothing is known yet")
	}
	sequence := c.api.sequence
	c.api = c.reporter()
	c.api.sequence = sequence
	for i := range c.streams {
		c.streams[i] = c.newStream()
	}
	for _, p := range c.pods {
		p.since = time.Now().Add(schedule.MaxBackOff) // until it is read
	}
}

// report reports demand; at zero replicas every stream sends the first of it at once.
func (c *chaos) report() {
	before := make([]int, len(c.streams))
	for i, s := range c.streams {
		before[i] = len(s.times())
	}
	edge := c.replicas == 0 && c.demand == 0
	was := c.demand
	c.demand = c.r.IntN(20)
	if c.demand < was { // on its way to the pods, for all that is known
		c.moves++
		c.had[fmt.Sprint("moved ", c.moves)] = []peak{{time.Now(), float64(was - c.demand)}}
	}
	c.note("%d are reported", c.demand)
	c.api.report(c.demand)
	c.pass(50 * time.Millisecond)
	if edge && c.demand > 0 && len(c.pods) == 0 {
		for i, s := range c.streams {
			require.Greater(c.t, len(s.times()), before[i], "stream %d was not told of %d", i, c.demand)
		}
	}
}

// follow sets the replicas as the HPA and KEDA would; pods come and go at their own pace.
func (c *chaos) follow() {
	wanted := int(math.Ceil(c.value(c.metadata) / chaosTarget))
	if c.replicas == 0 && !c.active(c.metadata) {
		return
	}
	c.replicas = min(max(wanted, 1), 10)
	c.note("%d replicas", c.replicas)
	c.observe()
}

// sleep takes the fleet to zero, where KEDA would.
func (c *chaos) sleep() {
	if c.active(c.metadata) {
		return
	}
	c.note("asleep")
	c.replicas = 0
	for name, p := range c.pods {
		p.server.fail()
		delete(c.pods, name)
	}
	c.observe()
}

// remember notes the largest answer that is right now. Readings are of different moments,
// so a pod counts its present load, and its loads until other pods were read. A pod
// whose load is unknown counts the target. If all are unknown, the present replicas count.
func (c *chaos) remember() {
	now := time.Now()
	note := func(of string, value float64) {
		c.had[of] = append(slices.DeleteFunc(c.had[of], func(p peak) bool { return now.Sub(p.at) > settled }), peak{now, value})
	}
	note("demand", float64(c.demand))
	for name, p := range c.pods {
		most := float64(max(p.load, chaosTarget))
		if p.bad != "" || now.Before(p.since) { // its last reading still applies
			for _, had := range c.had[name] {
				most = max(most, had.value)
			}
		}
		note(name, most)
	}
	most := 0.0
	for of, had := range c.had {
		if strings.HasPrefix(of, "moved") && c.unread() {
			had[0].at = now // it may have gone to the pod that does not answer
		}
		highest := 0.0
		for _, p := range had {
			if now.Sub(p.at) <= settled {
				highest = max(highest, p.value)
			}
		}
		most += highest
	}
	most = max(most, float64(c.replicas*chaosTarget))
	c.peaks = append(c.peaks, peak{now, most})
}

// answered reports whether a pod has answered since the last event.
func (c *chaos) answered() bool {
	for _, p := range c.pods {
		if p.bad == "" && time.Since(p.since) > settled {
			return true
		}
	}
	return false
}

// unread reports whether some pod has not been read for a while.
func (c *chaos) unread() bool {
	for _, p := range c.pods {
		if p.bad != "" && p.bad != "not ready" || time.Now().Before(p.since) {
			return true
		}
	}
	return false
}

func (c *chaos) check() {
	value, active := c.value(c.metadata), c.active(c.metadata)
	now := time.Now()
	most := 0.0
	for _, p := range c.peaks {
		if now.Sub(p.at) <= chaosHold+2*settled {
			most = max(most, p.value)
		}
	}
	if !c.answered() {
		most = max(most, c.last) // it still applies
	}
	c.last = value
	require.LessOrEqual(c.t, value, most, "more than was ever asked for")
	least := 0
	for _, p := range c.pods {
		if p.bad == "" && p.ready && now.Sub(p.since) > settled {
			least += p.load
		}
	}
	require.GreaterOrEqual(c.t, value, float64(least), "less than the pods that answer have")
	for _, p := range c.pods {
		if p.silent() && p.ready {
			least += chaosTarget
		}
	}
	require.GreaterOrEqual(c.t, value, float64(min(least, c.replicas*chaosTarget)), "less than the target for each that does not")
	if c.replicas == 0 {
		return
	}
	for name, p := range c.pods {
		if p.silent() {
			require.True(c.t, active, "%s (%s) may be at work", name, p.bad)
		}
		if p.load > 0 && (p.bad == "" || p.bad == "not ready") && now.Sub(p.since) > settled {
			require.True(c.t, active, "%s has %d", name, p.load)
		}
	}
}
