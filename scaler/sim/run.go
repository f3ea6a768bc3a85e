package sim

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
)

const (
	// tick is how often the demonstration moves, in real time: how exactly the
	// HPA's syncs are kept and reactions measured.
	tick = 20 * time.Millisecond
	// framesEvery is the pace of frames, in ticks.
	framesEvery = 5
	// answerWithin is how long the scaler may take to answer for the first time.
	answerWithin = 15 * time.Second
)

// Demo is a story and the world it takes place in: the scaler under
// demonstration is given its [Cluster] and its [Demo.DialContext], and answers
// at the address given to [New].
type Demo struct {
	story   Story
	address string
	world   *world
	network *network
	cluster *Cluster
}

// New sets the stage for a story; nothing moves before [Demo.Run]. The address
// is where the scaler serves KEDA's RPCs in plain text.
func New(s Story, scalerAddress string) (*Demo, error) {
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("story: %w", err)
	}
	epoch := time.Unix(0, 0)
	nodes := newNodes(s.Nodes)
	var fleets []*Fleet
	cluster := &Cluster{}
	for i, w := range s.workloads() {
		fleets = append(fleets, newFleet(epoch, w.Replicas, w.Shape, NewPoisson(s.Seed+uint64(i), epoch, w.Phases, w.Service), nodes, i))
		cluster.tiers = append(cluster.tiers, newTier(s, w, scalerAddress))
	}
	cluster.world = newWorld(nodes, fleets, epoch, s.Speed)
	return &Demo{story: s, address: scalerAddress, world: cluster.world, network: newNetwork(cluster.world), cluster: cluster}, nil
}

// Cluster is what the scaler may ask about the fleet.
func (d *Demo) Cluster() *Cluster { return d.cluster }

// DialContext is how the scaler reaches the replicas' servers by their pods'
// IPs. Until Run has begun it waits.
func (d *Demo) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return d.network.DialContext(ctx, network, addr)
}

// Options is what a run may be given.
type Options struct {
	// Explain returns the scaler's account of its last decision for a ScaledObject, and
	// false while there is none. Without it, decisions are read off GetMetrics.
	Explain func(name string) (Explanation, bool)
	// OnFrame gets the frames, ten a second of real time and one at the end,
	// always from one goroutine.
	OnFrame func(Frame)
	Logger  *slog.Logger // default: none
}

// Run tells the story once, beginning when the scaler answers for the first
// time, and returns when it is over and everything that it started has ended.
// If ctx ends first, that is the error, and the summary is of what was told. A
// Demo runs once.
func (d *Demo) Run(ctx context.Context, o Options) (Summary, error) {
	conn, err := grpc.NewClient(d.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return Summary{}, fmt.Errorf("scaler %s: %w", d.address, err)
	}
	defer func() { _ = conn.Close() }() // nothing is in flight any more

	g, groupCtx := errgroup.WithContext(ctx)
	playCtx, done := context.WithCancel(groupCtx)
	defer done()
	p := &play{demo: d, options: o, spawn: g.Go, stats: make([]Stats, len(d.cluster.tiers))}
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

// autoscaler is what scales one workload of the story.
type autoscaler struct {
	name     string
	keda     *KEDA
	executor *executor
	hpa      *HPA
	lastSync string // what it did, and why
}

func (d *Demo) autoscaler(conn grpc.ClientConnInterface, i int, t tier, logger *slog.Logger) *autoscaler {
	a := &autoscaler{
		name: t.object.Name, executor: &executor{world: d.world, fleet: i, min: t.Min, cooldown: d.story.Cooldown},
		hpa: &HPA{Behavior: d.story.Behavior, Min: max(1, t.Min), Max: t.Max},
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
	stats        []Stats
	held, waited int           // GPUs, and replicas for one, at most
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

// await returns when the scaler has answered for all workloads.
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

// step moves everything to the present: the fleets, their servers, the HPAs, and
// the look at the scaler.
func (p *play) step(ctx context.Context) error {
	p.look(func([]*Fleet) {})
	if p.reached >= p.nextSync {
		p.sync(ctx)
	}
	if err := p.demo.network.follow(ctx, p.spawn); err != nil {
		return err
	}
	p.watch(ctx)
	return nil
}

// look changes something, and takes the figures after that.
func (p *play) look(change func(fleets []*Fleet)) {
	p.demo.world.look(func(fleets []*Fleet, elapsed time.Duration) {
		change(fleets)
		pending := 0
		for i, f := range fleets {
			p.stats[i] = f.Stats()
			pending += p.stats[i].Pending
		}
		p.reached = elapsed
		p.frame.GPUs, p.frame.Of = p.demo.world.nodes.held()
		p.frame.Pending = pending
		p.held, p.waited = max(p.held, p.frame.GPUs), max(p.waited, pending)
	})
}

// sync is one sync of every HPA. It is dated when it was due, so that a late tick
// does not shift the periods of its policies.
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
		after, reason := a.hpa.Sync(p.demo.world.epoch.Add(due), before, answer.ValueMilli, answer.TargetMilli)
		if after != before {
			p.look(func(fleets []*Fleet) { fleets[i].Scale(after) })
		}
		if i == 0 {
			p.reaction.scaled(p.reached, before, after)
		}
		a.lastSync = syncText(before, after, replicasFor(answer.ValueMilli, answer.TargetMilli), reason)
	}
}

// watch fills the frame. The demonstration looks at the scaler more often than
// KEDA does, in order to see its decision when it is made.
func (p *play) watch(ctx context.Context) {
	f, s := &p.frame, p.stats[0]
	phase, _ := phaseAt(p.demo.story.Phases, p.reached)
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
		return // the last value stands
	}
	f.Value, f.Target, f.Wanted, f.Step = seen.value, seen.target, seen.Replicas, seen.Step
	p.reaction.see(time.Now(), s.Replicas, f.Wanted, seen.At)
}

// seen is what an onlooker sees of a decision.
type seen struct {
	Explanation
	value, target float64
}

func (p *play) wanted(ctx context.Context, a *autoscaler) (seen, error) {
	value, target, err := a.keda.Value(ctx)
	if err != nil {
		return seen{}, err
	}
	out := seen{Explanation{Replicas: replicasFor(value, target)}, float64(value) / 1000, float64(target) / 1000}
	if p.options.Explain != nil {
		if e, ok := p.options.Explain(a.name); ok {
			out.Explanation = e
		}
	}
	return out, nil
}
