package keda

import (
	"context"
	"fmt"
	"maps"
	"math"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kedacore/keda/v2/pkg/scalers"
	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"github.com/kedacore/keda/v2/pkg/scalers/scalersconfig"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	autoscaling "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"
)

// trigger is a trigger's metadata.
type trigger map[string]string

// at completes a trigger: the scaler's address, the fleet to read, and what lets
// a test see every change at once, scrapes every 100 ms and no hold.
func (tr trigger) at(address string, f fleet) trigger {
	all := trigger{
		"scalerAddress": address,
		"endpoints":     f.endpoints(),
		"interval":      "100ms",
		"hold":          "0s",
	}
	maps.Copy(all, tr)
	return all
}

// config is what KEDA builds a scaler from. The test's name is the
// ScaledObject's.
func config(t *testing.T, metadata trigger) *scalersconfig.ScalerConfig {
	return &scalersconfig.ScalerConfig{
		ScalableObjectName:      objectName(t),
		ScalableObjectNamespace: namespace,
		ScalableObjectType:      "ScaledObject",
		TriggerMetadata:         metadata,
		ResolvedEnv:             map[string]string{},
		AuthParams:              map[string]string{},
	}
}

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

// objectName turns the test's name into an object's.
func objectName(t *testing.T) string {
	return strings.Trim(notInNames.ReplaceAllString(strings.ToLower(t.Name()), "-"), "-")
}

// newScaler is KEDA's client of an `external` trigger.
func newScaler(t *testing.T, c *scalersconfig.ScalerConfig) scalers.Scaler {
	t.Helper()
	s, err := scalers.NewExternalScaler(c)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return s
}

// streamer is KEDA's client of an `external-push` trigger.
type streamer interface {
	scalers.PushScaler
	scalers.MetricSpecStreamer
}

func newPushScaler(t *testing.T, c *scalersconfig.ScalerConfig) streamer {
	t.Helper()
	s, err := scalers.NewExternalPushScaler(c)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return s.(streamer)
}

// spec returns the only metric of the trigger.
func spec(t *testing.T, s scalers.Scaler) *autoscaling.ExternalMetricSource {
	t.Helper()
	specs := s.GetMetricSpecForScaling(t.Context())
	require.Len(t, specs, 1)
	require.Equal(t, autoscaling.ExternalMetricSourceType, specs[0].Type)
	require.NotNil(t, specs[0].External)
	return specs[0].External
}

// reading is one poll: what the HPA and KEDA's executor are handed.
type reading struct {
	value  resource.Quantity
	active bool
}

// read polls once. It asks for exactly one value, of the metric's name: the HPA
// would add up any others.
func read(ctx context.Context, s scalers.Scaler, metric string) (reading, bool) {
	values, active, err := s.GetMetricsAndActivity(ctx, metric)
	if err != nil || len(values) != 1 || values[0].MetricName != metric {
		return reading{}, false
	}
	return reading{values[0].Value, active}, true
}

// settles waits until a poll gives that value and activity.
func settles(t *testing.T, s scalers.Scaler, metric, value string, active bool) {
	t.Helper()
	want := resource.MustParse(value)
	require.Eventually(t, func() bool {
		got, ok := read(t.Context(), s, metric)
		return ok && got.value.Cmp(want) == 0 && got.active == active
	}, patience, tick, "%s never read %s with activity %t", metric, value, active)
}

// replicas is the HPA's answer to an AverageValue: the usage in milli-units over
// the target in milli-units, rounded up.
func replicas(value, target resource.Quantity) int {
	return int(math.Ceil(float64(value.MilliValue()) / float64(target.MilliValue())))
}

// stream follows KEDA's end of StreamIsActive.
type stream struct {
	mu       sync.Mutex
	messages []message
}

type message struct {
	active bool
	at     time.Time
}

// follow runs the push scaler until the test ends, as KEDA's scale handler does.
func follow(t *testing.T, s scalers.PushScaler) *stream {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	active, done := make(chan bool), make(chan struct{})
	st := &stream{}
	go s.Run(ctx, active)
	go func() {
		defer close(done)
		for a := range active {
			st.mu.Lock()
			st.messages = append(st.messages, message{a, time.Now()})
			st.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		require.NotContains(t, st.activities(), false, "a pushed false is ignored at best")
	})
	return st
}

// after returns the first message since then, and whether there is one.
func (s *stream) after(then time.Time) (message, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.messages {
		if m.at.After(then) {
			return m, true
		}
	}
	return message{}, false
}

func (s *stream) activities() []bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []bool
	for _, m := range s.messages {
		all = append(all, m.active)
	}
	return all
}

// arrives waits for a message that came after then, within the bound, and
// returns how long after it came.
func (s *stream) arrives(t *testing.T, then time.Time, within time.Duration) time.Duration {
	t.Helper()
	var first message
	require.Eventually(t, func() (ok bool) {
		first, ok = s.after(then)
		return ok
	}, within, time.Millisecond, "no message within %s", within)
	require.True(t, first.active)
	return first.at.Sub(then)
}

// specArrives waits for a streamed metric spec.
func specArrives(t *testing.T, s scalers.MetricSpecStreamer) []autoscaling.MetricSpec {
	t.Helper()
	select {
	case specs, open := <-s.MetricSpecChan():
		require.True(t, open, "KEDA takes StreamMetricSpec for unimplemented")
		return specs
	case <-time.After(patience):
		require.FailNow(t, "no metric spec was streamed")
		return nil
	}
}

// direct is a plain client of the protocol, for what KEDA's own hides: status
// codes, messages and deprecated fields.
func direct(t *testing.T, p *process) pb.ExternalScalerClient {
	t.Helper()
	conn, err := grpc.NewClient(p.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return pb.NewExternalScalerClient(conn)
}

// ref is the trigger as KEDA sends it.
func ref(t *testing.T, metadata trigger) *pb.ScaledObjectRef {
	return &pb.ScaledObjectRef{Name: objectName(t), Namespace: namespace, ScalerMetadata: metadata}
}

// request is a query of the HPA as KEDA passes it on, without its "s0-".
func request(t *testing.T, metadata trigger, metric string) *pb.GetMetricsRequest {
	return &pb.GetMetricsRequest{ScaledObjectRef: ref(t, metadata), MetricName: metric}
}

func (r reading) String() string {
	return fmt.Sprintf("%s, active %t", r.value.String(), r.active)
}
