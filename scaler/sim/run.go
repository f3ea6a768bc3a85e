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
	w := newWorld(NewFleet(epoch, s.Replicas, s.Shape, NewPoisson(s.Seed, epoch, s.Phases, s.Service)), epoch, s.Speed)
	return &Demo{
		story: s, address: scalerAddress, world: w, network: newNetwork(w),
		cluster: &Cluster{world: w, object: s.object(scalerAddress), min: s.Min, max: s.Max},
	}, nil
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
	// Explain returns the scaler's account of its last decision, and false while
	// there is none. Without it, decisions are read off GetMetrics.
	Explain func() (Explanation, bool)
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

	ref := &pb.ScaledObjectRef{
		Namespace: d.story.Namespace, Name: d.story.Shape.Name, ScalerMetadata: d.story.Metadata(d.address),
	}
	executor := &executor{world: d.world, min: d.story.Min, cooldown: d.story.Cooldown}
	keda := NewKEDA(conn, ref, KEDAOptions{
		OnActive: executor.active, OnPoll: executor.active,
		Poll: d.story.Real(d.story.Poll), Retry: d.story.Real(2 * time.Second), RetryMax: d.story.Real(time.Minute),
		Logger: o.Logger,
	})
	g, groupCtx := errgroup.WithContext(ctx)
	playCtx, done := context.WithCancel(groupCtx)
	defer done()
	p := &play{
		demo: d, keda: keda, executor: executor, options: o, spawn: g.Go,
		hpa: &HPA{Behavior: d.story.Behavior, Min: max(1, d.story.Min), Max: d.story.Max},
	}
	g.Go(func() error { return keda.Run(playCtx) })
	g.Go(func() error {
		defer done()
		return errors.Join(p.run(playCtx), d.network.close())
	})
	err = g.Wait()
	return p.summary(), err
}

// play is one run in progress. It is for one goroutine.
type play struct {
	demo     *Demo
	keda     *KEDA
	executor *executor
	hpa      *HPA
	options  Options
	spawn    func(func() error)

	nextSync time.Duration // story time
	reaction reaction
	frame    Frame
	stats    Stats
	reached  time.Duration // story time
	complete bool
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

// await returns when the scaler has answered once.
func (p *play) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	for {
		_, err := p.keda.Query(ctx)
		if err == nil {
			return nil
		}
		if !sleep(ctx, tick) {
			return fmt.Errorf("the scaler at %s does not answer: %w", p.demo.address, errors.Join(context.Cause(ctx), err))
		}
	}
}

// step moves everything to the present: the fleet, its servers, the HPA, and
// the look at the scaler.
func (p *play) step(ctx context.Context) error {
	p.demo.world.look(func(f *Fleet, elapsed time.Duration) {
		p.stats, p.reached = f.Stats(), elapsed
	})
	if p.reached >= p.nextSync {
		p.sync(ctx)
	}
	if err := p.demo.network.follow(ctx, p.spawn); err != nil {
		return err
	}
	p.watch(ctx)
	return nil
}

// sync is one sync of the HPA. It is dated when it was due, so that a late tick
// does not shift the periods of its policies.
func (p *play) sync(ctx context.Context) {
	due := p.nextSync
	for p.nextSync <= p.reached {
		p.nextSync += p.demo.story.Sync
	}
	if p.stats.Replicas == 0 {
		p.frame.HPA = "rests at 0"
		return
	}
	a, err := p.keda.Query(ctx)
	if err != nil {
		p.frame.HPA = fmt.Sprintf("stays at %d: no metric (%v)", p.stats.Replicas, err)
		return
	}
	before := p.stats.Replicas
	after, reason := p.hpa.Sync(p.demo.world.epoch.Add(due), before, a.ValueMilli, a.TargetMilli)
	if after != before {
		p.demo.world.look(func(f *Fleet, elapsed time.Duration) {
			f.Scale(after)
			p.stats, p.reached = f.Stats(), elapsed
		})
	}
	p.reaction.scaled(p.reached, before, after)
	p.frame.HPA = syncText(before, after, replicasFor(a.ValueMilli, a.TargetMilli), reason)
}

// watch fills the frame. The demonstration looks at the scaler more often than
// KEDA does, in order to see its decision when it is made.
func (p *play) watch(ctx context.Context) {
	f, s := &p.frame, p.stats
	phase, _ := phaseAt(p.demo.story.Phases, p.reached)
	f.Sim, f.Phase, f.PerSecond = p.reached, phase.Name, phase.PerSecond
	f.Load, f.Active, f.Waiting = s.Load(), s.Active, s.Waiting
	f.Replicas, f.Ready, f.Draining = s.Replicas, s.Ready, s.Draining

	value, target, err := p.keda.Value(ctx)
	if err != nil {
		f.Step = err.Error()
		return // the last value stands
	}
	f.Value, f.Target = float64(value)/1000, float64(target)/1000
	f.Wanted, f.Step = replicasFor(value, target), ""
	var at time.Time
	if p.options.Explain != nil {
		if e, ok := p.options.Explain(); ok {
			f.Wanted, f.Step, at = e.Replicas, e.Step, e.At
		}
	}
	p.reaction.see(time.Now(), s.Replicas, f.Wanted, at)
}
