package push

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"

	demandv1 "github.com/inference-scaler/inference-scaler/proto/demand/v1"
)

var everyNamespace = []string{everywhere}

// deliver brings a peer what it is due, and returns why it refused a report.
func deliver(from *Store, to *replica, peer *Store) (refused []error, sent int) {
	for _, req := range from.takeDue(to) {
		sent++
		if err := peer.accept(req, everyNamespace, fromPeer); err != nil {
			refused = append(refused, err)
		}
	}
	return refused, sent
}

// connect brings a peer what it is due when a stream to it opens.
func connect(t *testing.T, from, peer *Store) {
	to := from.addPeer()
	defer from.removePeer(to)
	refused, _ := deliver(from, to, peer)
	for _, err := range refused {
		require.ErrorIs(t, err, errSuperseded)
	}
}

// pair returns two replicas. flow delivers what they owe each other.
func pair(t *testing.T) (a, b *Store, flow func(), stop func()) {
	a, stopA := running(t, Options{})
	b, stopB := running(t, Options{})
	toB, toA := a.addPeer(), b.addPeer()
	flow = func() {
		synctest.Wait()
		for rounds, sent := 0, 1; sent > 0; rounds++ {
			require.Less(t, rounds, 3, "reports go to and fro")
			_, there := deliver(a, toB, b)
			_, back := deliver(b, toA, a)
			sent = there + back
		}
		synctest.Wait()
	}
	return a, b, flow, func() { stopA(); stopB() }
}

// lasting is a report with the longest time to live.
func lasting(sequence uint64, n float64) *demandv1.ReportRequest {
	r := queued(sequence, n)
	r.TimeToLive = durationpb.New(MaxTimeToLive)
	return r
}

// withdrawal withdraws the reports of the instance.
func withdrawal(sequence uint64) *demandv1.ReportRequest {
	r := queued(sequence, 0)
	r.TimeToLive = durationpb.New(0)
	return r
}

// Two replicas with a stream between them: one gets the reports of the other, also those of
// before the stream opened, and those of before it broke.
func TestRelay(t *testing.T) {
	here, there := NewStore(Options{}), NewStore(Options{})
	known := tokens(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	serveAt := func(listener net.Listener, s *Store) *grpc.Server {
		server := grpc.NewServer()
		NewServer(s, known).Register(server)
		go func() { _ = server.Serve(listener) }()
		return server
	}
	server := serveAt(listener, there)
	host, port, err := net.SplitHostPort(listener.Addr().String())
	require.NoError(t, err)

	require.NoError(t, here.accept(queued(1, 5), asr, fromReporter))
	w := watch(t, there)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	var found atomic.Bool
	found.Store(true)
	running.Go(func() {
		require.NoError(t, here.Relay(ctx, Peers{
			Host: "replicas", Port: port, Self: "10.0.0.1",
			Token: func() string { return peerToken }, Credentials: insecure.NewCredentials,
			LookUp: func(context.Context, string) ([]string, error) {
				if !found.Load() {
					return []string{"10.0.0.1"}, nil
				}
				return []string{"10.0.0.1", host}, nil
			},
			Logger: slog.New(slog.DiscardHandler),
		}))
	})
	defer running.Wait()
	defer cancel()
	shows := func(w *watcher, want float64) {
		t.Helper()
		require.Eventually(t, func() bool { return w.demand(t)["api-0"] == want }, 10*time.Second, 5*time.Millisecond)
	}
	shows(w, 5)
	require.NoError(t, here.accept(queued(2, 6), asr, fromReporter))
	shows(w, 6)

	server.Stop() // and a new replica at the same address
	again, err := net.Listen("tcp", listener.Addr().String())
	require.NoError(t, err)
	restarted := NewStore(Options{})
	defer serveAt(again, restarted).Stop()
	w = watch(t, restarted)
	require.NoError(t, here.accept(lasting(3, 7), asr, fromReporter))
	shows(w, 7)

	found.Store(false)
	require.Eventually(t, func() bool {
		here.mu.Lock()
		defer here.mu.Unlock()
		return len(here.peers) == 0
	}, 10*time.Second, 5*time.Millisecond, "a replica that is gone has no stream")
}

// Each replica forwards what it receives from reporters, and nothing of its peers.
func TestReportsDoNotLoop(t *testing.T) {
	var stores [3]*Store
	to := map[[2]int]*replica{}
	for i := range stores {
		stores[i] = NewStore(Options{})
	}
	for i := range stores {
		for k := range stores {
			if i != k {
				to[[2]int{i, k}] = stores[i].addPeer()
			}
		}
	}
	round := func() (sent int) {
		for between, r := range to {
			refused, n := deliver(stores[between[0]], r, stores[between[1]])
			require.Empty(t, refused)
			sent += n
		}
		return sent
	}
	shown := func(want map[string]float64) {
		for _, s := range stores {
			w := watch(t, s)
			require.Equal(t, want, w.demand(t))
			w.Close()
		}
	}
	require.NoError(t, stores[1].accept(queued(1, 5), asr, fromReporter))
	require.Equal(t, 2, round(), "once to each peer")
	require.Zero(t, round())
	shown(map[string]float64{"api-0": 5})
	require.Nil(t, exportNow(stores[2], "demand.queued_requests", 7))
	require.Equal(t, 2, round())
	require.Zero(t, round())
	shown(map[string]float64{"api-0": 7})
}

// A refused report is not stored, and so it is neither forwarded nor sent again.
func TestARefusedReportDoesNotLoop(t *testing.T) {
	full, here := NewStore(Options{}), NewStore(Options{})
	toHere, toFull := full.addPeer(), here.addPeer()
	for i := range maxPerWorkload {
		r := queued(1, 1)
		r.Instance = strconv.Itoa(i)
		require.NoError(t, full.accept(r, asr, fromReporter))
	}
	full.takeDue(toHere) // lost
	require.NoError(t, here.accept(queued(1, 5), asr, fromReporter))
	refused, sent := deliver(here, toFull, full)
	require.Equal(t, 1, sent)
	require.Len(t, refused, 1)
	require.ErrorIs(t, refused[0], errExhausted)
	for range 3 {
		require.Empty(t, full.takeDue(toHere))
		require.Empty(t, here.takeDue(toFull))
	}
	require.Equal(t, map[string]float64{"api-0": 5}, watch(t, here).demand(t))
	require.ErrorIs(t, full.accept(queued(2, 6), asr, fromReporter), errExhausted)
	require.Empty(t, full.takeDue(toHere), "nor is one that a reporter sent")
}

// The newest report of an instance counts, whichever replica received it, and in whichever
// order the reports arrive.
func TestTheNewestReportWins(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		stores := []*Store{NewStore(Options{}), NewStore(Options{})}
		to := []*replica{stores[0].addPeer(), stores[1].addPeer()}
		newest := uint64(0)
		for range 20 {
			at := rng.IntN(2)
			switch rng.IntN(3) {
			case 0:
				deliver(stores[at], to[at], stores[1-at])
			case 1:
				stores[at].takeDue(to[at]) // the stream breaks, and opens again
				stores[at].removePeer(to[at])
				to[at] = stores[at].addPeer()
			default:
				newest++
				r := lasting(newest, float64(newest))
				if rng.IntN(4) == 0 {
					r.TimeToLive = nil
				}
				require.NoError(t, stores[at].accept(r, asr, fromReporter))
				deliver(stores[at], to[at], stores[1-at])
			}
		}
		for range 2 {
			deliver(stores[0], to[0], stores[1])
			deliver(stores[1], to[1], stores[0])
		}
		require.Equal(t, watch(t, stores[0]).demand(t), watch(t, stores[1]).demand(t))
		for instance, v := range watch(t, stores[0]).demand(t) {
			require.EqualValues(t, newest, v, instance)
		}
	}
}

// A peer that is slow gets the newest report of each instance.
func TestASlowPeerGetsTheNewestReport(t *testing.T) {
	here, there := NewStore(Options{}), NewStore(Options{})
	toThere := here.addPeer()
	for i := range uint64(10_000) {
		require.NoError(t, here.accept(queued(i+1, float64(i)), asr, fromReporter))
	}
	refused, sent := deliver(here, toThere, there)
	require.Empty(t, refused)
	require.Equal(t, 1, sent)
	require.Equal(t, map[string]float64{"api-0": 9999}, watch(t, there).demand(t))
}

func TestWithdrawnReportsStayWithdrawn(t *testing.T) {
	a, b := NewStore(Options{}), NewStore(Options{})
	require.NoError(t, a.accept(lasting(1, 5), asr, fromReporter))
	connect(t, a, b)
	require.Equal(t, map[string]float64{"api-0": 5}, watch(t, b).demand(t))
	require.NoError(t, a.accept(withdrawal(2), asr, fromReporter)) // while there is no stream
	connect(t, b, a)
	require.Empty(t, watch(t, a).demand(t), "a peer revives nothing")
	connect(t, a, b)
	require.Empty(t, watch(t, b).Status(), "its reporter neither")
}

func TestWithdrawnSeriesStayWithdrawn(t *testing.T) {
	a, b := NewStore(Options{}), NewStore(Options{})
	NewServer(a, nil).export(exported("asr", 100, "demand.queued_requests", 7), asr)
	connect(t, a, b)
	require.NoError(t, a.accept(withdrawal(200), asr, fromReporter)) // while there is no stream
	connect(t, b, a)
	require.Empty(t, watch(t, a).demand(t))
	connect(t, a, b)
	require.Empty(t, watch(t, b).demand(t))
}

// A report that has expired here may be current there, for as long as it took to arrive.
func TestExpiredReportsStayExpired(t *testing.T) {
	for name, report := range map[string]func(*Store) error{
		"complete": func(s *Store) error { return s.accept(queued(1, 5), asr, fromReporter) },
		"OTLP": func(s *Store) error {
			exportNow(s, "demand.queued_requests", 5)
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, stopA := running(t, Options{TimeToLive: 10 * time.Second})
				defer stopA()
				b, stopB := running(t, Options{TimeToLive: 10 * time.Second})
				defer stopB()
				toB := a.addPeer()
				require.NoError(t, report(a))
				requests := a.takeDue(toB)
				time.Sleep(time.Second) // on the way
				for _, req := range requests {
					require.NoError(t, b.accept(req, everyNamespace, fromPeer))
				}
				w, v := watch(t, a), watch(t, b)
				time.Sleep(9500 * time.Millisecond)
				synctest.Wait()
				require.Empty(t, w.demand(t))
				require.Equal(t, map[string]float64{"api-0": 5}, v.demand(t))
				connect(t, b, a)
				require.Empty(t, w.demand(t))
				time.Sleep(time.Second)
				require.Empty(t, v.demand(t))
			})
		})
	}
}

func TestARestartedReplicaGetsAllReports(t *testing.T) {
	a, b := NewStore(Options{}), NewStore(Options{})
	toA := b.addPeer()
	require.NoError(t, b.accept(lasting(1, 5), asr, fromReporter))
	refused, _ := deliver(b, toA, a)
	require.Empty(t, refused)
	b = NewStore(Options{}) // restarted
	connect(t, a, b)
	require.Equal(t, map[string]float64{"api-0": 5}, watch(t, b).demand(t), "A has it of B, and it lasts for 10 minutes")

	b = NewStore(Options{})
	NewServer(b, nil).export(exported("asr", 10, "demand.queued_requests", 7), asr)
	a = NewStore(Options{})
	connect(t, b, a)
	b = NewStore(Options{})
	toB := a.addPeer()
	require.Nil(t, NewServer(a, nil).export(exported("asr", 11, "other.metric", 1), asr).GetPartialSuccess())
	refused, _ = deliver(a, toB, b)
	require.Empty(t, refused)
	require.Equal(t, map[string]float64{"api-0": 7}, watch(t, b).demand(t), "also if an export comes between")
}

func TestSeriesOfTwoReplicas(t *testing.T) {
	here, there := NewStore(Options{}), NewStore(Options{})
	toThere := here.addPeer()
	w := watch(t, there)
	require.Nil(t, NewServer(here, nil).export(exported("asr", 10, "demand.queued_requests", 7), asr).GetPartialSuccess())
	refused, _ := deliver(here, toThere, there)
	require.Empty(t, refused)
	require.Equal(t, map[string]float64{"api-0": 7}, w.demand(t))
	require.Nil(t, NewServer(there, nil).export(exported("asr", 11, "other.metric", 1), asr).GetPartialSuccess())
	require.Equal(t, map[string]float64{"api-0": 7}, w.demand(t), "the other series has not expired")
}

func TestRelayedPoints(t *testing.T) {
	there := NewStore(Options{})
	w := watch(t, there)
	for i, v := range []float64{5, 6} {
		r := queued(7, v)
		r.Samples[0].TimeToLive, r.Samples[0].Moment = durationpb.New(time.Minute+time.Duration(i)), 7
		require.NoError(t, there.accept(r, asr, fromPeer))
	}
	require.Equal(t, map[string]float64{"api-0": 6}, w.demand(t), "of one moment the point received last")
	for _, ttl := range []time.Duration{0, -time.Second, MaxTimeToLive + 1} {
		r := queued(8, 9)
		r.Samples[0].TimeToLive, r.Samples[0].Moment = durationpb.New(ttl), 8
		require.ErrorContains(t, there.accept(r, asr, fromPeer), "wanted: more than 0, and at most 10m0s")
	}
}

// Series that two replicas received reach each other when the stream between them opens, each
// with the rest of its time to live.
func TestSeriesAfterAPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, stopA := running(t, Options{})
		defer stopA()
		b, stopB := running(t, Options{})
		defer stopB()
		w, v := watch(t, b), watch(t, a)
		require.Nil(t, exportNow(b, "demand.queued_requests", 7))
		for range 8 {
			time.Sleep(time.Second)
			exportNow(a, "other.metric", 1)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.Equal(t, map[string]float64{"api-0": 7}, w.demand(t))
		connect(t, a, b)
		connect(t, b, a)
		require.Equal(t, map[string]float64{"api-0": 7}, w.demand(t), "exported 18 s ago")
		require.Equal(t, map[string]float64{"api-0": 7}, v.demand(t))
		c := NewStore(Options{})
		connect(t, a, c)
		require.Equal(t, 10*time.Second, time.Since(watch(t, c).Status()[0].Tried), "since the last export")
		time.Sleep(131 * time.Second)
		synctest.Wait()
		require.Equal(t, map[string]float64{"api-0": 7}, v.demand(t))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Empty(t, v.demand(t), "at the same time")
		require.Empty(t, w.demand(t))
	})
}

func TestARelayThatLags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := NewStore(Options{}), NewStore(Options{})
		toB := a.addPeer()
		w := watch(t, b)
		exportNow(a, "demand.queued_requests", 0)
		requests := a.takeDue(toB)
		time.Sleep(3 * time.Second)
		exportNow(b, "demand.queued_requests", 500)
		time.Sleep(2 * time.Second)
		require.Len(t, requests, 1)
		require.ErrorIs(t, b.accept(requests[0], everyNamespace, fromPeer), errSuperseded, "A received it 3 s before that")
		require.Equal(t, map[string]float64{"api-0": 500}, w.demand(t))
	})
}

func TestConcurrentExports(t *testing.T) {
	here, there := NewStore(Options{}), NewStore(Options{})
	toThere := here.addPeer()
	var exporters, relay sync.WaitGroup
	for i := range 4 {
		exporters.Go(func() {
			for n := range 1000 {
				require.Nil(t, exportNow(here, fmt.Sprintf("m%d", i), float64(n)))
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	relay.Go(func() {
		for ctx.Err() == nil {
			select {
			case <-toThere.wake:
			case <-ctx.Done():
			}
			deliver(here, toThere, there)
		}
	})
	exporters.Wait()
	cancel()
	relay.Wait()
	all := stored(there).series
	require.Len(t, all, 4)
	for _, s := range all {
		require.EqualValues(t, 999, s.value)
	}
}

// A replica forwards the series that it received from exporters, and none of its peers: the
// lag between replicas does not add up.
func TestLagIsAddedOnce(t *testing.T) {
	const lag = time.Second
	synctest.Test(t, func(t *testing.T) {
		a, stopA := running(t, Options{TimeToLive: 25 * time.Second})
		defer stopA()
		b, stopB := running(t, Options{TimeToLive: 25 * time.Second})
		defer stopB()
		ctx, cancel := context.WithCancel(t.Context())
		var relays sync.WaitGroup
		for from, to := range map[*Store]*Store{a: b, b: a} {
			peer := from.addPeer()
			relays.Go(func() {
				for {
					select {
					case <-peer.wake:
					case <-ctx.Done():
						return
					}
					for _, req := range from.takeDue(peer) {
						time.AfterFunc(lag, func() { _ = to.accept(req, everyNamespace, fromPeer) })
					}
				}
			})
		}
		w := watch(t, a)
		for i := range 8 {
			exportNow([]*Store{a, b}[i%2], "demand.queued_requests", 7)
			time.Sleep(10 * time.Second)
		}
		require.NotEmpty(t, w.demand(t))
		for range 30 {
			exportNow(a, "other.metric", 1)
			exportNow(b, "third.metric", 1)
			time.Sleep(time.Second)
		}
		require.Empty(t, w.demand(t), "exported 40 s ago, and every 10 s before that")
		time.Sleep(10 * time.Second)
		cancel()
		relays.Wait()
	})
}

// Of two exporters of a pod one stops: its series expire at both replicas, although the other
// one goes on.
func TestSeriesExpireByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there, flow, stop := pair(t)
		defer stop()
		w, v := watch(t, here), watch(t, there)
		demands := func() []float64 {
			flow()
			return []float64{w.demand(t)["api-0"], v.demand(t)["api-0"]}
		}
		export := func(name string, value float64) {
			require.Nil(t, exportNow(here, name, value))
			flow()
		}
		for range 13 {
			export("demand.queued_requests", 7)
			export("other.metric", 1)
			time.Sleep(5 * time.Second)
		}
		for range 29 {
			require.Equal(t, []float64{7, 7}, demands())
			export("other.metric", 1)
			time.Sleep(5 * time.Second)
		}
		require.Equal(t, []float64{0, 0}, demands(), "150 s after the last point")
		require.Equal(t, current, stored(here).state)
	})
}

func TestSeriesExpireOnBothReplicas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, flow, stop := pair(t)
		defer stop()
		w, v := watch(t, a), watch(t, b)
		stores := []*Store{a, b}
		for i := range 90 { // 15 minutes, every 10 s, round robin
			if i < 6 {
				exportNow(stores[i%2], "demand.queued_requests", 7)
			}
			exportNow(stores[i%2], "other.metric", float64(i))
			flow()
			time.Sleep(10 * time.Second)
			flow()
		}
		require.Empty(t, w.demand(t), "exported last 14 minutes ago")
		require.Empty(t, v.demand(t))
	})
}

func TestSeriesOfPinnedExportersExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, flow, stop := pair(t)
		defer stop()
		w := watch(t, a)
		for i := range 60 { // 1 h, every minute, two exporters of one pod
			if i < 3 {
				exportNow(a, "demand.queued_requests", 7)
			}
			exportNow(a, "third.metric", float64(i))
			flow()
			time.Sleep(20 * time.Second)
			exportNow(b, "other.metric", float64(i))
			flow()
			time.Sleep(40 * time.Second)
			flow()
		}
		require.Empty(t, w.demand(t), "exported last 57 minutes ago")
	})
}

func TestPeersGetTheRestOfTheTimeToLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := NewStore(Options{})
		exportNow(a, "other.metric", 1)
		require.NoError(t, a.accept(func() *demandv1.ReportRequest {
			r := lasting(1, 5)
			r.Instance = "api-1"
			return r
		}(), asr, fromReporter))
		time.Sleep(120 * time.Second)
		exportNow(a, "demand.queued_requests", 7)
		time.Sleep(25 * time.Second)
		rest := map[string]time.Duration{}
		for _, r := range a.takeDue(a.addPeer()) {
			if r.GetTimeToLive() != nil {
				rest[r.GetInstance()] = r.GetTimeToLive().AsDuration()
			}
			for _, s := range r.GetSamples() {
				if s.GetTimeToLive() != nil {
					rest[s.GetName()] = s.GetTimeToLive().AsDuration()
				}
			}
		}
		require.Equal(t, map[string]time.Duration{"other_metric": 5 * time.Second, "demand_queued_requests": 125 * time.Second, "api-1": 455 * time.Second}, rest)
	})
}

// A Collector may stamp all points of a series alike.
func TestPointsOfOneMoment(t *testing.T) {
	for name, every := range map[string]time.Duration{"every 10 s": 10 * time.Second, "every minute": time.Minute} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b, flow, stop := pair(t)
				defer stop()
				w, v := watch(t, a), watch(t, b)
				s := NewServer(a, nil)
				s.export(exported("asr", 1000, "other.metric", 1), asr)
				gone := 0
				for range 60 {
					require.Nil(t, s.export(exported("asr", 1000, "demand.queued_requests", 7), asr).GetPartialSuccess())
					for range 10 {
						flow()
						if len(w.demand(t)) == 0 || len(v.demand(t)) == 0 {
							gone++
						}
						time.Sleep(every / 10)
					}
				}
				require.Zero(t, gone)
			})
		})
	}
}

func TestOnlyTheLastReportIsKept(t *testing.T) {
	s := NewStore(Options{})
	w := watch(t, s)
	defer w.Close()
	big := strings.Repeat("x", 900)
	for i := range 63 {
		r := queued(uint64(i+1), 1)
		r.TimeToLive = durationpb.New(time.Minute)
		r.Samples = nil
		for k := range 16 {
			ls := map[string]string{}
			for l := range 16 {
				ls[fmt.Sprintf("l%02d", l)] = fmt.Sprintf("%s-%d-%d", big, i, k)
			}
			r.Samples = append(r.Samples, &demandv1.Sample{Name: "anything", Labels: ls, Value: 1})
		}
		require.NoError(t, s.accept(r, asr, fromReporter))
	}
	require.NoError(t, s.accept(lasting(1000, 1), asr, fromReporter))
	held := 0
	for _, m := range w.members {
		for _, k := range m.resolved {
			held += len(k.labels.String())
		}
	}
	require.Less(t, held, MaxMessage)
}
