package push

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	demandv1 "github.com/inference-scaler/inference-scaler/proto/demand/v1"
)

// lookUpEvery is the interval at which the replicas are looked up, and the pause before a
// broken stream is opened again.
const lookUpEvery = time.Second

// Peers are the other replicas of this scaler.
type Peers struct {
	// Host and Port of a headless Service: each of its addresses is a replica.
	Host, Port string
	// Self is this replica's own address.
	Self        string
	Token       func() string                                            // that may report for every namespace; empty for none
	Credentials func() credentials.TransportCredentials                  // called for each connection
	LookUp      func(ctx context.Context, host string) ([]string, error) // nil: the resolver's
	Logger      *slog.Logger
}

// replica is a peer, with the reporters that it must be sent. A reporter that changes
// several times before it is sent is sent once: a slow peer gets the newest state and needs
// no queue. The store's lock guards the map.
type replica struct {
	due  map[*reporter]bool // true: with the series that this replica received from peers
	wake chan struct{}      // holds a value when the map is not empty
}

// addPeer adds a peer, which must be sent all reports.
func (s *Store) addPeer() *replica {
	p := &replica{due: map[*reporter]bool{}, wake: make(chan struct{}, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.peers[p] = struct{}{}
	for _, known := range s.reporters {
		for _, r := range known {
			p.changed(r, true)
		}
	}
	return p
}

func (s *Store) removePeer(p *replica) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.peers, p)
}

// changed makes a reporter due.
func (p *replica) changed(r *reporter, all bool) {
	p.due[r] = p.due[r] || all
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// takeDue returns what the peer must be sent now.
func (s *Store) takeDue(p *replica) []*demandv1.ReportRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	requests := make([]*demandv1.ReportRequest, 0, len(p.due))
	for r, all := range p.due {
		if req := r.request(now, all); req != nil {
			requests = append(requests, req)
		}
	}
	clear(p.due)
	return requests
}

// Relay forwards the reports that this replica receives to its peers, until ctx ends. A new
// peer is sent all reports.
func (s *Store) Relay(ctx context.Context, p Peers) error {
	if p.LookUp == nil {
		p.LookUp = net.DefaultResolver.LookupHost
	}
	var running sync.WaitGroup
	defer running.Wait()
	stop := map[string]context.CancelFunc{}
	failures := rate.Sometimes{Interval: time.Minute}
	tick := time.NewTicker(lookUpEvery)
	defer tick.Stop()
	for {
		addresses, err := p.LookUp(ctx, p.Host)
		if err != nil && ctx.Err() == nil {
			failures.Do(func() { p.Logger.Warn("the lookup of the other replicas failed", "host", p.Host, "err", err) })
		}
		for address, cancel := range stop {
			if err == nil && !slices.Contains(addresses, address) {
				cancel()
				delete(stop, address)
			}
		}
		for _, address := range addresses {
			if address == p.Self || stop[address] != nil {
				continue
			}
			var one context.Context
			one, stop[address] = context.WithCancel(ctx)
			running.Go(func() { s.relayTo(one, address, p) })
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// relayTo keeps a stream to one peer, until ctx ends.
func (s *Store) relayTo(ctx context.Context, address string, p Peers) {
	for {
		err := s.stream(ctx, net.JoinHostPort(address, p.Port), p)
		if ctx.Err() != nil {
			return
		}
		p.Logger.Info("the stream to another replica ended", "replica", address, "err", err)
		select {
		case <-time.After(lookUpEvery):
		case <-ctx.Done():
			return
		}
	}
}

// stream forwards reports to one peer until the stream breaks.
func (s *Store) stream(ctx context.Context, address string, p Peers) error {
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(p.Credentials()),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // a report in flight is sent again with all others
	ctx, cancel := context.WithCancelCause(metadata.AppendToOutgoingContext(ctx, relayedBy, "replica", "authorization", "Bearer "+p.Token()))
	defer cancel(nil)
	stream, err := demandv1.NewDemandServiceClient(conn).Report(ctx)
	if err != nil {
		return err
	}
	go func() { // ends with the stream
		for {
			// The outcome is not used: the peer has a newer report, or no quota for this one.
			if _, err := stream.Recv(); err != nil {
				cancel(err)
				return
			}
		}
	}()
	other := s.addPeer()
	defer s.removePeer(other)
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-other.wake:
		}
		for _, req := range s.takeDue(other) {
			if err := stream.Send(req); err != nil {
				return err
			}
		}
	}
}
