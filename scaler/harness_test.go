package scaler

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	promsource "github.com/inference-scaler/inference-scaler/metricsource/prometheus"
	"github.com/inference-scaler/inference-scaler/metricsource/push"
	"github.com/inference-scaler/inference-scaler/metricsource/scrape"
	"github.com/inference-scaler/inference-scaler/scaler/evaluator"
)

// world is a scaler, called over gRPC, with a network of inference servers and,
// where a test wants one, a cluster. All run in one synctest bubble: time is virtual,
// and every goroutine is blocked when a test looks.
type world struct {
	t         *testing.T
	network   *network
	cluster   *fakeCluster
	recorder  *recorder
	registry  *prometheus.Registry
	reports   *push.Store
	secrets   secretsOf
	scaler    *Scaler
	evaluator *evaluator.Evaluator
	client    externalscaler.ExternalScalerClient
	stop      func() // ends the scaler, and all that is of it
}

// inBubble runs a test with a world, with a cluster or without Kubernetes.
func inBubble(t *testing.T, withCluster bool, test func(*testing.T, *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, network: &network{servers: map[string]*server{}}, recorder: &recorder{}, secrets: secretsOf{}}
		if withCluster {
			w.cluster = &fakeCluster{workloads: map[cluster.NamespacedName]cluster.Workload{}, triggers: map[cluster.NamespacedName][]map[string]string{}}
		}
		w.start()
		defer func() { // also after a failure, or the bubble would not end
			w.stop()
			w.network.close()
		}()
		test(t, w)
	})
}

// start runs a scaler that knows nothing yet.
func (w *world) start() {
	w.registry = prometheus.NewRegistry()
	opts := evaluator.Options{Registerer: w.registry, Recorder: w.recorder, Secrets: w.secrets}
	if w.cluster != nil {
		opts.Cluster = w.cluster
	}
	reports := push.NewStore(push.Options{})
	w.reports, opts.Reports = reports, reports
	scraper := scrape.New(scrape.Options{Dial: w.network.dial})
	opts.Scraper = scraper
	opts.Prometheus = promsource.New(promsource.Options{Dial: w.network.dial})
	e := evaluator.New(opts)
	s := New(e)
	w.evaluator, w.scaler = e, s
	if w.cluster != nil {
		w.cluster.changed, w.cluster.moved = e.Changed, e.InventoryChanged
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { require.NoError(w.t, scraper.Run(ctx)) })
	running.Go(func() { require.NoError(w.t, opts.Prometheus.Run(ctx)) })
	running.Go(func() { require.NoError(w.t, reports.Run(ctx)) })
	running.Go(func() { require.NoError(w.t, e.Run(ctx)) })

	listener := bufconn.Listen(1 << 16)
	grpcServer := grpc.NewServer()
	s.Register(grpcServer)
	running.Go(func() { require.NoError(w.t, grpcServer.Serve(listener)) })
	conn, err := grpc.NewClient("passthrough:///scaler", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	require.NoError(w.t, err)
	w.client = externalscaler.NewExternalScalerClient(conn)
	w.stop = func() {
		s.CloseStreams()
		_ = conn.Close()
		grpcServer.Stop()
		cancel()
		running.Wait()
		e.Close()
	}
}

// open is how many triggers are open.
func (w *world) open() int {
	return len(w.evaluator.Explanations(func(string, string) bool { return true }))
}

// last is the last answer of a trigger.
func (w *world) last(name string, metadata map[string]string) *evaluator.Answer {
	found, err := w.evaluator.Lookup("asr", name, metadata)
	require.NoError(w.t, err)
	return found.Last()
}

// restart is the end of the scaler, and another that knows what the cluster says.
func (w *world) restart() {
	w.stop()
	w.start()
	for _, so := range w.cluster.ScaledObjects() {
		w.cluster.changed(so.Namespace, so.Name)
	}
}

// pass advances the virtual time, and waits until every goroutine is blocked.
func (w *world) pass(d time.Duration) {
	time.Sleep(d) // virtual
	synctest.Wait()
}

func ref(metadata map[string]string) *externalscaler.ScaledObjectRef {
	return &externalscaler.ScaledObjectRef{Namespace: "asr", Name: "fleet", ScalerMetadata: metadata}
}

// value is what KEDA reads with GetMetrics.
func (w *world) value(metadata map[string]string) float64 {
	reply, err := w.client.GetMetrics(w.t.Context(), &externalscaler.GetMetricsRequest{MetricName: "m", ScaledObjectRef: ref(metadata)})
	require.NoError(w.t, err)
	require.Len(w.t, reply.GetMetricValues(), 1, "the HPA adds up whatever a reply holds")
	require.Equal(w.t, "m", reply.GetMetricValues()[0].GetMetricName())
	return reply.GetMetricValues()[0].GetMetricValueFloat()
}

func (w *world) active(metadata map[string]string) bool {
	reply, err := w.client.IsActive(w.t.Context(), ref(metadata))
	require.NoError(w.t, err)
	return reply.GetResult()
}

// messages collects what a stream says until it ends.
type messages struct {
	mu    sync.Mutex
	got   []time.Duration // when, since the stream was opened
	ended error
	done  bool
}

func (w *world) streamIsActive(metadata map[string]string) *messages {
	return w.streamIn(context.Background(), metadata)
}

// streamIn opens a stream that ends with the context.
func (w *world) streamIn(ctx context.Context, metadata map[string]string) *messages {
	stream, err := w.client.StreamIsActive(ctx, ref(metadata))
	require.NoError(w.t, err)
	begun := time.Now()
	m := &messages{}
	go func() {
		for {
			reply, err := stream.Recv()
			m.mu.Lock()
			if err != nil {
				m.ended, m.done = err, true
				m.mu.Unlock()
				return
			}
			if !reply.GetResult() {
				w.t.Error("false was sent")
			}
			m.got = append(m.got, time.Since(begun).Round(100*time.Millisecond))
			m.mu.Unlock()
		}
	}()
	synctest.Wait()
	return m
}

func (m *messages) times() []time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.got)
}

// pipes is a listener in memory. It does not use bufconn, which makes a timer when
// net/http ends a read by a deadline in the past. In a bubble with the race detector
// Go 1.26's runtime sometimes crashes over that timer. net.Pipe makes none.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) dial(ctx context.Context) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case p.conns <- there:
		return here, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// network is a set of HTTP servers by address.
type network struct {
	mu      sync.Mutex
	servers map[string]*server
}

// server is an inference server: what it answers can be changed.
type server struct {
	mu       sync.Mutex
	listener *pipes
	http     *http.Server
	body     string
	down     bool
}

// hangs is the body of a server that takes requests and never answers.
const hangs = "hangs"

func (n *network) add(address, body string) *server {
	s := &server{body: body}
	n.serve(address, s, func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		body := s.body
		s.mu.Unlock()
		if body == hangs {
			<-r.Context().Done()
			return
		}
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		fmt.Fprint(w, body)
	})
	return s
}

func (n *network) serve(address string, s *server, handler http.HandlerFunc) {
	s.listener = &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	s.http = &http.Server{Handler: handler}
	go func() { _ = s.http.Serve(s.listener) }()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.servers[address] = s
}

func (n *network) dial(ctx context.Context, _, address string) (net.Conn, error) {
	n.mu.Lock()
	s := n.servers[address]
	n.mu.Unlock()
	if s == nil || s.isDown() {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	}
	return s.listener.dial(ctx)
}

func (n *network) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.servers {
		_ = s.http.Close()
	}
}

// clear ends all servers.
func (n *network) clear() {
	n.close()
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.servers)
}

func (s *server) isDown() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.down
}

func (s *server) set(body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.body, s.down = body, false
}

// fail makes the server refuse connections; those open break at their next use.
func (s *server) fail() {
	s.mu.Lock()
	s.down = true
	s.mu.Unlock()
	_ = s.http.Shutdown(context.Background())
}

// heal puts a server that failed back, as a new one at its address.
func (n *network) heal(address, body string) { n.add(address, body) }

// slowCalls counts calls, and makes each of them take time.
type slowCalls struct{ took, asked atomic.Int64 }

func (c *slowCalls) wait() {
	if took := c.took.Load(); took > 0 {
		c.asked.Add(1)
		time.Sleep(time.Duration(took)) // virtual
	}
}

// fakeCluster takes the place of Kubernetes: it answers what a test has set.
type fakeCluster struct {
	mu          sync.Mutex
	unsynced    bool
	workloads   map[cluster.NamespacedName]cluster.Workload
	triggers    map[cluster.NamespacedName][]map[string]string
	endpoints   []cluster.Endpoint // of every Service
	nodes       []*cluster.Node
	quotas      []*cluster.Quota
	scaling     cluster.NodeAutoscaler
	unlisted    error // why there is no inventory
	changed     func(namespace, name string)
	leaderCalls slowCalls
	inventories atomic.Int64 // that were asked for
	moved       func()
}

func (c *fakeCluster) Synced() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.unsynced
}

func (c *fakeCluster) ScaledObject(namespace, name string) (cluster.ScaledObject, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unsynced {
		return cluster.ScaledObject{}, cluster.ErrNotSynced
	}
	metadata, ok := c.triggers[cluster.NamespacedName{Namespace: namespace, Name: name}]
	if !ok {
		return cluster.ScaledObject{}, fmt.Errorf("ScaledObject %s/%s: %w", namespace, name, cluster.ErrNotFound)
	}
	so := cluster.ScaledObject{Namespace: namespace, Name: name}
	for _, m := range metadata {
		so.Triggers = append(so.Triggers, cluster.ScaledObjectTrigger{Push: true, Metadata: m})
	}
	return so, nil
}

func (c *fakeCluster) ScaledObjects() []cluster.ScaledObject {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []cluster.ScaledObject
	for o := range c.triggers {
		all = append(all, cluster.ScaledObject{Namespace: o.Namespace, Name: o.Name})
	}
	return all
}

func (c *fakeCluster) Workload(namespace, name string) (cluster.Workload, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unsynced {
		return cluster.Workload{}, cluster.ErrNotSynced
	}
	w, ok := c.workloads[cluster.NamespacedName{Namespace: namespace, Name: name}]
	if !ok {
		return cluster.Workload{}, fmt.Errorf("ScaledObject %s/%s: %w", namespace, name, cluster.ErrNotFound)
	}
	w.Pods = slices.Clone(w.Pods)
	return w, nil
}

func (c *fakeCluster) Endpoints(string, string, string) ([]cluster.Endpoint, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.endpoints), nil
}

func (c *fakeCluster) Leader(namespace, kind, name string) (cluster.Workload, error) {
	c.leaderCalls.wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for o, w := range c.workloads {
		if o.Namespace == namespace && w.Name == name && (kind == "" || kind == w.Kind) {
			return w, nil
		}
	}
	return cluster.Workload{}, cluster.ErrNotFound
}

func (c *fakeCluster) Inventory() (*cluster.Inventory, error) {
	c.inventories.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unlisted != nil {
		return nil, c.unlisted
	}
	inv := &cluster.Inventory{Nodes: slices.Clone(c.nodes), Quotas: c.quotas, Autoscaler: c.scaling}
	for _, w := range c.workloads {
		inv.Workloads = append(inv.Workloads, &w)
	}
	return inv, nil
}

func (c *fakeCluster) HasPod(_ string, addr netip.Addr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.endpoints, func(e cluster.Endpoint) bool { return e.IP == addr.String() })
}

// update changes the workload asr/fleet, and notifies the scaler.
func (c *fakeCluster) update(change func(w *cluster.Workload)) {
	c.updateOf("fleet", "lightning-asr", change)
}

// updateOf is that for a ScaledObject of this name, and its workload's.
func (c *fakeCluster) updateOf(name, workload string, change func(w *cluster.Workload)) {
	o := cluster.NamespacedName{Namespace: "asr", Name: name}
	c.mu.Lock()
	w, ok := c.workloads[o]
	if !ok {
		w = cluster.Workload{Namespace: "asr", ScaledObject: name, Kind: "Deployment", Name: workload, MaxReplicas: 10}
	}
	change(&w)
	c.workloads[o] = w
	c.mu.Unlock()
	c.moved()
	c.changed(o.Namespace, o.Name)
	for _, so := range c.ScaledObjects() { // those that follow it
		if so.Name != name {
			c.changed(so.Namespace, so.Name)
		}
	}
}

// pods are those of asr/fleet.
func (c *fakeCluster) pods() []cluster.Pod {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.workloads[cluster.NamespacedName{Namespace: "asr", Name: "fleet"}].Pods
}

func (c *fakeCluster) declare(metadata ...map[string]string) { c.declareOf("fleet", metadata...) }

func (c *fakeCluster) declareOf(name string, metadata ...map[string]string) {
	o := cluster.NamespacedName{Namespace: "asr", Name: name}
	c.mu.Lock()
	c.triggers[o] = metadata
	c.mu.Unlock()
	c.changed(o.Namespace, o.Name)
}

func (c *fakeCluster) delete() {
	o := cluster.NamespacedName{Namespace: "asr", Name: "fleet"}
	c.mu.Lock()
	delete(c.workloads, o)
	delete(c.triggers, o)
	c.mu.Unlock()
	c.changed(o.Namespace, o.Name)
}

func pod(name, ip string, ready bool) cluster.Pod {
	return cluster.Pod{Name: name, UID: "uid-" + name, IP: ip, Phase: "Running", Ready: ready}
}

// recorder keeps the reasons of events.
type recorder struct {
	mu      sync.Mutex
	reasons []string
	notes   []string
}

func (r *recorder) Event(_, _, reason, note string, _ bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reasons = append(r.reasons, reason)
	r.notes = append(r.notes, note)
}

// take returns the notes of that reason, and forgets all there were.
func (r *recorder) take(reason string) (notes []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, note := range r.notes {
		if r.reasons[i] == reason {
			notes = append(notes, note)
		}
	}
	r.reasons, r.notes = nil, nil
	return notes
}

func (r *recorder) has(reason string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.reasons, reason)
}

// asr is the exposition of an ASR server with so many active requests.
func asr(active int) string {
	return fmt.Sprintf("asr_active_requests %d\nasr_active_streams 0\nasr_batch_queue_depth 0\nasr_stream_queue_depth 0\n", active)
}
