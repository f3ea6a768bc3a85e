package push

import (
	"context"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	demandv1 "github.com/inference-scaler/inference-scaler/proto/demand/v1"
)

const (
	// lookUpEvery is how often the replicas are looked up.
	lookUpEvery = time.Second
	// tellEvery is how often it is told that they cannot be.
	tellEvery = time.Minute
	// relayBacklog is how many reports may wait for a replica. One that falls further
	// behind is sent all that stands again.
	relayBacklog = 4096
)

// Peers are the other replicas of this scaler.
type Peers struct {
	// Host and Port of a headless Service: each of its addresses is a replica.
	Host, Port string
	// Self is this replica's own address.
	Self        string
	Token       func() string                                            // that may report for every namespace; empty for none
	Credentials func() credentials.TransportCredentials                  // asked for each connection
	LookUp      func(ctx context.Context, host string) ([]string, error) // nil: the resolver's
	Logger      *slog.Logger
}

// relay is the way to one other replica.
type relay struct {
	queue  chan *demandv1.ReportRequest
	behind chan struct{} // holds a value when the replica is to get all that stands
}

func newRelay() *relay {
	return &relay{queue: make(chan *demandv1.ReportRequest, relayBacklog), behind: make(chan struct{}, 1)}
}

func (r *relay) send(req *demandv1.ReportRequest) {
	select {
	case r.queue <- req:
	default:
		r.fallBehind()
	}
}

func (r *relay) fallBehind() {
	select {
	case r.behind <- struct{}{}:
	default:
	}
}

// Relay passes the reports that come to this replica on to the others, until ctx
// ends; to one that is new, all that stand.
func (s *Store) Relay(ctx context.Context, p Peers) error {
	if p.LookUp == nil {
		p.LookUp = net.DefaultResolver.LookupHost
	}
	running := map[string]context.CancelFunc{}
	ended := make(chan string)
	tick := time.NewTicker(lookUpEvery)
	defer tick.Stop()
	var told time.Time
	for {
		addresses, err := p.LookUp(ctx, p.Host)
		if err != nil && ctx.Err() == nil && time.Since(told) >= tellEvery {
			told = time.Now()
			p.Logger.Warn("the other replicas cannot be looked up", "host", p.Host, "err", err)
		}
		present := map[string]bool{p.Self: true}
		for _, address := range addresses {
			known := present[address] || running[address] != nil
			if present[address] = true; known {
				continue
			}
			one, cancel := context.WithCancel(ctx)
			running[address] = cancel
			go func() {
				err := s.relayTo(one, net.JoinHostPort(address, p.Port), p)
				if one.Err() == nil {
					p.Logger.Info("the stream to another replica ended", "replica", address, "err", err)
				}
				ended <- address
			}()
		}
		for address, cancel := range running {
			if err == nil && !present[address] {
				cancel()
			}
		}
		for pausing := true; pausing; {
			select {
			case address := <-ended:
				running[address]()
				delete(running, address)
			case <-tick.C:
				pausing = false
			case <-ctx.Done():
				for range running {
					<-ended
				}
				return nil
			}
		}
	}
}

// relayTo keeps a stream to one replica until it breaks; the next look-up tries again.
func (s *Store) relayTo(ctx context.Context, address string, p Peers) error {
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(p.Credentials()),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing is in flight that matters
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(ctx, relayedBy, "replica", "authorization", "Bearer "+p.Token()))
	defer cancel()
	stream, err := demandv1.NewDemandServiceClient(conn).Report(ctx)
	if err != nil {
		return err
	}
	broken := make(chan error, 1)
	go func() { // ends with the stream
		for {
			if _, err := stream.Recv(); err != nil {
				broken <- err
				return
			}
		}
	}()
	r := newRelay()
	r.fallBehind()
	s.mu.Lock()
	s.relays[r] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.relays, r)
	}()
	for {
		var due []*demandv1.ReportRequest
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-broken:
			return err
		case req := <-r.queue:
			due = append(due, req)
		case <-r.behind:
			due = s.standing()
		}
		for _, req := range due {
			if err := stream.Send(req); err != nil {
				return err
			}
		}
	}
}
