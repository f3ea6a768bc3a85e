package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/inference-scaler/inference-scaler/metricsource/schedule"
	"github.com/inference-scaler/inference-scaler/scaler/hpa"
	"github.com/inference-scaler/inference-scaler/scaler/sim"
)

const (
	// tick is the real time between two steps. It limits the precision of the HPA's syncs and of
	// measured delays.
	tick = 20 * time.Millisecond
	// ticksPerFrame makes ten frames per second.
	ticksPerFrame = 5
	// responseTimeout limits the time to the scaler's first responses.
	responseTimeout = 15 * time.Second
)

// Demo is a scenario with its cluster and its network. The scaler uses its [Cluster] and
// [Demo.DialContext], and listens on the address given to [New].
type Demo struct {
	scenario Scenario
	address  string
	world    *world
	network  *network
	cluster  *Cluster
}

// New prepares a scenario. Simulated time starts with [Demo.Run]. At the address, the scaler
// serves KEDA's RPCs in plaintext.
func New(s Scenario, scalerAddress string) (*Demo, error) {
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("scenario: %w", err)
	}
	epoch := time.Unix(0, 0)
	nodes := sim.NewNodes(s.Nodes)
	var fleets []*sim.Fleet
	cluster := &Cluster{}
	for i, w := range s.workloads() {
		fleets = append(fleets, sim.NewFleet(epoch, w.Replicas, w.Shape, sim.NewPoisson(s.Seed+uint64(i), epoch, w.Phases, w.Service), nodes, i))
		cluster.deployments = append(cluster.deployments, newDeployment(s, w, scalerAddress))
	}
	cluster.world = newWorld(nodes, fleets, epoch, s.Speed)
	return &Demo{scenario: s, address: scalerAddress, world: cluster.world, network: newNetwork(cluster.world), cluster: cluster}, nil
}

// Cluster returns the cluster that the scaler watches.
func (d *Demo) Cluster() *Cluster { return d.cluster }

// DialContext connects the scaler to a pod by its IP. It waits for Run.
func (d *Demo) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return d.network.DialContext(ctx, network, addr)
}

// Options of a run.
type Options struct {
	// Explain returns the scaler's last decision for a ScaledObject, or false before the first.
	// Without Explain, decisions are derived from GetMetrics.
	Explain func(name string) (Explanation, bool)
	// OnFrame receives ten frames per second of real time, and one at the end, from one goroutine.
	OnFrame func(Frame)
	Logger  *slog.Logger // default: none
}

// Run runs the scenario once. It starts after the scaler's first responses. All its goroutines
// have ended when it returns. If ctx ends first, Run returns its error and the summary so far.
func (d *Demo) Run(ctx context.Context, o Options) (Summary, error) {
	conn, err := grpc.NewClient(d.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return Summary{}, fmt.Errorf("scaler %s: %w", d.address, err)
	}
	defer func() { _ = conn.Close() }() // no call is in progress

	g, groupCtx := errgroup.WithContext(ctx)
	runCtx, done := context.WithCancel(groupCtx)
	defer done()
	p := &runner{demo: d, options: o, spawn: g.Go, stats: make([]sim.Stats, len(d.cluster.deployments))}
	for i, t := range d.cluster.deployments {
		a := d.autoscaler(conn, i, t, o.Logger)
		p.scalers = append(p.scalers, a)
		g.Go(func() error { return a.keda.Run(runCtx) })
	}
	g.Go(func() error {
		defer done()
		return errors.Join(p.run(runCtx), d.network.close())
	})
	err = g.Wait()
	return p.summary(), err
}

// autoscaler scales one workload of the scenario.
type autoscaler struct {
	name     string
	keda     *KEDA
	executor *executor
	hpa      hpa.Spec
	memory   hpa.Memory // of the HPA controller
	lastSync string     // result and reason
}

func (d *Demo) autoscaler(conn grpc.ClientConnInterface, i int, t deployment, logger *slog.Logger) *autoscaler {
	a := &autoscaler{
		name: t.object.Name, executor: &executor{world: d.world, fleet: i, min: t.Min, cooldown: d.scenario.Cooldown},
		hpa: hpa.Spec{MinReplicas: max(1, t.Min), MaxReplicas: t.Max, Behavior: d.scenario.Behavior},
	}
	ref := &pb.ScaledObjectRef{Namespace: d.scenario.Namespace, Name: t.object.Name, ScalerMetadata: t.object.Triggers[0].Metadata}
	a.keda = NewKEDA(conn, ref, KEDAOptions{
		OnActive: a.executor.onActive, OnPoll: a.executor.onActive,
		Poll: d.scenario.Real(d.scenario.Poll), Retry: d.scenario.Real(2 * time.Second), RetryMax: d.scenario.Real(time.Minute),
		Logger: logger,
	})
	return a
}

// runner is one run in progress. It is not safe for concurrent use.
type runner struct {
	demo    *Demo
	scalers []*autoscaler // in the order of the world's fleets
	options Options
	spawn   func(func() error)

	nextSync    time.Duration // simulated time
	reaction    reaction
	frame       Frame
	stats       []sim.Stats
	peakGPUs    int           // allocated
	peakPending int           // replicas without free GPUs
	reached     time.Duration // simulated time
	complete    bool
}

func (p *runner) run(ctx context.Context) error {
	if err := p.demo.network.reconcile(ctx, p.spawn); err != nil {
		return err
	}
	if err := p.waitForScaler(ctx); err != nil {
		return err
	}
	p.demo.world.start(time.Now())
	p.reaction.rise, p.reaction.rises = p.demo.scenario.rise()
	p.reaction.baseline = p.demo.scenario.Replicas
	p.reaction.realRise = p.demo.world.realTime(p.reaction.rise)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for n := 0; ; n++ {
		if err := p.step(ctx); err != nil {
			return err
		}
		over := p.reached >= p.demo.scenario.Duration()
		if p.options.OnFrame != nil && (over || n%ticksPerFrame == 0) {
			p.options.OnFrame(p.frame)
		}
		if over {
			p.complete = true
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// waitForScaler returns once the scaler has responded for all workloads.
func (p *runner) waitForScaler(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, responseTimeout)
	defer cancel()
	for {
		var err error
		for _, a := range p.scalers {
			if _, failed := a.keda.Query(ctx); failed != nil {
				err = fmt.Errorf("%s: %w", a.name, failed)
			}
		}
		if err == nil {
			return nil
		}
		if !schedule.Sleep(ctx, tick) {
			return fmt.Errorf("scaler %s: no response: %w", p.demo.address, errors.Join(context.Cause(ctx), err))
		}
	}
}

// step advances the fleets, their servers, the HPAs and the frame to the current time.
func (p *runner) step(ctx context.Context) error {
	p.withFleets(func([]*sim.Fleet) {})
	if p.reached >= p.nextSync {
		p.sync(ctx)
	}
	if err := p.demo.network.reconcile(ctx, p.spawn); err != nil {
		return err
	}
	p.fillFrame(ctx)
	return nil
}

// withFleets changes the fleets and then updates the statistics.
func (p *runner) withFleets(change func(fleets []*sim.Fleet)) {
	p.demo.world.withFleets(func(fleets []*sim.Fleet, elapsed time.Duration) {
		change(fleets)
		pending := 0
		for i, f := range fleets {
			p.stats[i] = f.Stats()
			pending += p.stats[i].Pending
		}
		p.reached = elapsed
		p.frame.AllocatedGPUs, p.frame.GPUs = p.demo.world.nodes.Allocated()
		p.frame.Pending = pending
		p.peakGPUs, p.peakPending = max(p.peakGPUs, p.frame.AllocatedGPUs), max(p.peakPending, pending)
	})
}

// sync is one sync of every HPA. Its time is the due time: a late tick must not shift the periods
// of the policies.
func (p *runner) sync(ctx context.Context) {
	due := p.nextSync
	for p.nextSync <= p.reached {
		p.nextSync += p.demo.scenario.Sync
	}
	for i, a := range p.scalers {
		before := p.stats[i].Replicas
		if before == 0 {
			a.lastSync = "keeps 0: ScalingDisabled"
			continue
		}
		answer, err := a.keda.Query(ctx)
		if err != nil {
			a.lastSync = fmt.Sprintf("keeps %d: FailedGetExternalMetric (%v)", before, err)
			continue
		}
		metric := hpa.Metric{Value: answer.ValueMilli, Target: answer.TargetMilli}
		var result hpa.Result
		result, a.memory = a.hpa.Sync(p.demo.world.epoch.Add(due), hpa.Scale{Spec: before, Status: before}, []hpa.Metric{metric}, a.memory)
		after := result.Replicas
		if after != before {
			p.withFleets(func(fleets []*sim.Fleet) { fleets[i].Scale(after) })
		}
		if i == 0 {
			p.reaction.observeSync(p.reached, before, after)
		}
		a.lastSync = syncText(before, after, metric.Ceil(), string(result.Reason))
	}
}

// fillFrame fills the frame. It queries the scaler more often than KEDA does, to show each
// decision at once.
func (p *runner) fillFrame(ctx context.Context) {
	f, s := &p.frame, p.stats[0]
	phase, _ := sim.PhaseAt(p.demo.scenario.Phases, p.reached)
	f.Elapsed, f.Phase, f.PerSecond = p.reached, phase.Name, phase.PerSecond
	f.Load, f.Active, f.Waiting = s.Load(), s.Active, s.Waiting
	f.Replicas, f.Ready, f.Draining, f.HPA = s.Replicas, s.Ready, s.Draining, p.scalers[0].lastSync

	others := make([]OtherFrame, 0, len(p.scalers)-1)
	for i, a := range p.scalers[1:] {
		other := OtherFrame{Name: a.name, Replicas: p.stats[1+i].Replicas, Ready: p.stats[1+i].Ready}
		if d, err := p.decision(ctx, a); err == nil {
			other.Desired, other.Rule = d.Replicas, d.Rule
		} else {
			other.Rule = err.Error()
		}
		others = append(others, other)
	}
	f.Others = others

	d, err := p.decision(ctx, p.scalers[0])
	if err != nil {
		f.Rule = err.Error()
		return // the frame keeps the last decision
	}
	f.Value, f.Target, f.Desired, f.Rule = d.value, d.target, d.Replicas, d.Rule
	p.reaction.observeDecision(time.Now(), s.Replicas, f.Desired, d.At)
}

// decision is an explanation with its value and target.
type decision struct {
	Explanation
	value, target float64
}

func (p *runner) decision(ctx context.Context, a *autoscaler) (decision, error) {
	value, target, err := a.keda.Value(ctx)
	if err != nil {
		return decision{}, err
	}
	out := decision{Explanation{Replicas: hpa.Metric{Value: value, Target: target}.Ceil()}, float64(value) / 1000, float64(target) / 1000}
	if p.options.Explain != nil {
		if e, ok := p.options.Explain(a.name); ok {
			out.Explanation = e
		}
	}
	return out, nil
}
