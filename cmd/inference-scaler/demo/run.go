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
	// tick is the real time between two steps: the precision of the HPA's syncs and of
	// measured reactions.
	tick = 20 * time.Millisecond
	// framesEvery is the ticks from one frame to the next.
	framesEvery = 5
	// answerWithin bounds the time to the scaler's first answers.
	answerWithin = 15 * time.Second
)

// Demo is a story with its cluster and its network. The scaler uses its [Cluster] and its
// [Demo.DialContext], and answers at the address given to [New].
type Demo struct {
	story   Story
	address string
	world   *world
	network *network
	cluster *Cluster
}

// New prepares a story; time starts with [Demo.Run]. At the address, the scaler serves KEDA's
// RPCs in plaintext.
func New(s Story, scalerAddress string) (*Demo, error) {
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("story: %w", err)
	}
	epoch := time.Unix(0, 0)
	nodes := sim.NewNodes(s.Nodes)
	var fleets []*sim.Fleet
	cluster := &Cluster{}
	for i, w := range s.workloads() {
		fleets = append(fleets, sim.NewFleet(epoch, w.Replicas, w.Shape, sim.NewPoisson(s.Seed+uint64(i), epoch, w.Phases, w.Service), nodes, i))
		cluster.tiers = append(cluster.tiers, newTier(s, w, scalerAddress))
	}
	cluster.world = newWorld(nodes, fleets, epoch, s.Speed)
	return &Demo{story: s, address: scalerAddress, world: cluster.world, network: newNetwork(cluster.world), cluster: cluster}, nil
}

// Cluster is the cluster for the scaler.
func (d *Demo) Cluster() *Cluster { return d.cluster }

// DialContext connects the scaler to a pod by its IP. It waits until Run has begun.
func (d *Demo) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return d.network.DialContext(ctx, network, addr)
}

// Options of a run.
type Options struct {
	// Explain returns the scaler's last decision for a ScaledObject, and false before the
	// first. Without it, decisions are derived from GetMetrics.
	Explain func(name string) (Explanation, bool)
	// OnFrame gets the frames, ten per second of real time and one at the end, from one
	// goroutine.
	OnFrame func(Frame)
	Logger  *slog.Logger // default: none
}

// Run runs the story once, from the scaler's first answers on. All its goroutines have ended
// when it returns. If ctx ends first, Run returns its error, with the summary so far.
func (d *Demo) Run(ctx context.Context, o Options) (Summary, error) {
	conn, err := grpc.NewClient(d.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return Summary{}, fmt.Errorf("scaler %s: %w", d.address, err)
	}
	defer func() { _ = conn.Close() }() // all calls have ended

	g, groupCtx := errgroup.WithContext(ctx)
	playCtx, done := context.WithCancel(groupCtx)
	defer done()
	p := &play{demo: d, options: o, spawn: g.Go, stats: make([]sim.Stats, len(d.cluster.tiers))}
	for i, t := range d.cluster.tiers {
		a := d.autoscaler(conn, i, t, o.Logger)
		p.scalers = append(p.scalers, a)
		g.Go(func() error { return a.keda.Run(playCtx) })
	}
	g.Go(func() error {
		defer done()
		return errors.Join(p.run(playCtx), d.network.close())
	})
	err = g.Wait()
	return p.summary(), err
}

// autoscaler scales one workload of the story.
type autoscaler struct {
	name     string
	keda     *KEDA
	executor *executor
	hpa      hpa.Spec
	memory   hpa.Memory // the HPA controller's
	lastSync string     // what it did, and why
}

func (d *Demo) autoscaler(conn grpc.ClientConnInterface, i int, t tier, logger *slog.Logger) *autoscaler {
	a := &autoscaler{
		name: t.object.Name, executor: &executor{world: d.world, fleet: i, min: t.Min, cooldown: d.story.Cooldown},
		hpa: hpa.Spec{MinReplicas: max(1, t.Min), MaxReplicas: t.Max, Behavior: d.story.Behavior},
	}
	ref := &pb.ScaledObjectRef{Namespace: d.story.Namespace, Name: t.object.Name, ScalerMetadata: t.object.Triggers[0].Metadata}
	a.keda = NewKEDA(conn, ref, KEDAOptions{
		OnActive: a.executor.active, OnPoll: a.executor.active,
		Poll: d.story.Real(d.story.Poll), Retry: d.story.Real(2 * time.Second), RetryMax: d.story.Real(time.Minute),
		Logger: logger,
	})
	return a
}

// play is one run in progress. It is for one goroutine.
type play struct {
	demo    *Demo
	scalers []*autoscaler // in the order of the world's fleets
	options Options
	spawn   func(func() error)

	nextSync     time.Duration // story time
	reaction     reaction
	frame        Frame
	stats        []sim.Stats
	held, waited int           // at most: GPUs, and replicas that waited for one
	reached      time.Duration // story time
	complete     bool
}

func (p *play) run(ctx context.Context) error {
	if err := p.demo.network.follow(ctx, p.spawn); err != nil {
		return err
	}
	if err := p.await(ctx); err != nil {
		return err
	}
	p.demo.world.begin(time.Now())
	p.reaction.story, p.reaction.rises = p.demo.story.rise()
	p.reaction.baseline = p.demo.story.Replicas
	p.reaction.real = p.demo.world.realTime(p.reaction.story)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for n := 0; ; n++ {
		if err := p.step(ctx); err != nil {
			return err
		}
		over := p.reached >= p.demo.story.Duration()
		if p.options.OnFrame != nil && (over || n%framesEvery == 0) {
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

// await returns once the scaler has answered for all workloads.
func (p *play) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
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
			return fmt.Errorf("the scaler at %s does not answer: %w", p.demo.address, errors.Join(context.Cause(ctx), err))
		}
	}
}

// step advances everything to the present: the fleets, their servers, the HPAs and the frame.
func (p *play) step(ctx context.Context) error {
	p.look(func([]*sim.Fleet) {})
	if p.reached >= p.nextSync {
		p.sync(ctx)
	}
	if err := p.demo.network.follow(ctx, p.spawn); err != nil {
		return err
	}
	p.watch(ctx)
	return nil
}

// look changes the fleets, and takes their statistics after that.
func (p *play) look(change func(fleets []*sim.Fleet)) {
	p.demo.world.look(func(fleets []*sim.Fleet, elapsed time.Duration) {
		change(fleets)
		pending := 0
		for i, f := range fleets {
			p.stats[i] = f.Stats()
			pending += p.stats[i].Pending
		}
		p.reached = elapsed
		p.frame.GPUs, p.frame.Of = p.demo.world.nodes.Allocated()
		p.frame.Pending = pending
		p.held, p.waited = max(p.held, p.frame.GPUs), max(p.waited, pending)
	})
}

// sync is one sync of every HPA. Its time is when it was due: a late tick does not shift the
// periods of the policies.
func (p *play) sync(ctx context.Context) {
	due := p.nextSync
	for p.nextSync <= p.reached {
		p.nextSync += p.demo.story.Sync
	}
	for i, a := range p.scalers {
		before := p.stats[i].Replicas
		if before == 0 {
			a.lastSync = "rests at 0"
			continue
		}
		answer, err := a.keda.Query(ctx)
		if err != nil {
			a.lastSync = fmt.Sprintf("stays at %d: no metric (%v)", before, err)
			continue
		}
		metric := hpa.Metric{Value: answer.ValueMilli, Target: answer.TargetMilli}
		var result hpa.Result
		result, a.memory = a.hpa.Sync(p.demo.world.epoch.Add(due), hpa.Scale{Spec: before, Status: before}, []hpa.Metric{metric}, a.memory)
		after := result.Replicas
		if after != before {
			p.look(func(fleets []*sim.Fleet) { fleets[i].Scale(after) })
		}
		if i == 0 {
			p.reaction.scaled(p.reached, before, after)
		}
		a.lastSync = syncText(before, after, metric.Ceil(), string(result.Reason))
	}
}

// watch fills the frame. It queries the scaler more often than KEDA does, to see a decision at
// once.
func (p *play) watch(ctx context.Context) {
	f, s := &p.frame, p.stats[0]
	phase, _ := sim.PhaseAt(p.demo.story.Phases, p.reached)
	f.Sim, f.Phase, f.PerSecond = p.reached, phase.Name, phase.PerSecond
	f.Load, f.Active, f.Waiting = s.Load(), s.Active, s.Waiting
	f.Replicas, f.Ready, f.Draining, f.HPA = s.Replicas, s.Ready, s.Draining, p.scalers[0].lastSync

	others := make([]OtherFrame, 0, len(p.scalers)-1)
	for i, a := range p.scalers[1:] {
		other := OtherFrame{Name: a.name, Replicas: p.stats[1+i].Replicas, Ready: p.stats[1+i].Ready}
		if seen, err := p.wanted(ctx, a); err == nil {
			other.Wanted, other.Step = seen.Replicas, seen.Step
		} else {
			other.Step = err.Error()
		}
		others = append(others, other)
	}
	f.Others = others

	seen, err := p.wanted(ctx, p.scalers[0])
	if err != nil {
		f.Step = err.Error()
		return // the frame keeps the last value
	}
	f.Value, f.Target, f.Wanted, f.Step = seen.value, seen.target, seen.Replicas, seen.Step
	p.reaction.see(time.Now(), s.Replicas, f.Wanted, seen.At)
}

// seen is a decision with the value and target for it.
type seen struct {
	Explanation
	value, target float64
}

func (p *play) wanted(ctx context.Context, a *autoscaler) (seen, error) {
	value, target, err := a.keda.Value(ctx)
	if err != nil {
		return seen{}, err
	}
	out := seen{Explanation{Replicas: hpa.Metric{Value: value, Target: target}.Ceil()}, float64(value) / 1000, float64(target) / 1000}
	if p.options.Explain != nil {
		if e, ok := p.options.Explain(a.name); ok {
			out.Explanation = e
		}
	}
	return out, nil
}
