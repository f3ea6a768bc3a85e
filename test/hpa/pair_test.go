package hpa

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/meta/testrestmapper"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	scalefake "k8s.io/client-go/scale/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"        // whose Deployment is scaled
	_ "k8s.io/kubernetes/pkg/apis/autoscaling/install" // whose defaults are filled in
	"k8s.io/kubernetes/pkg/controller/podautoscaler"
	"k8s.io/kubernetes/pkg/controller/podautoscaler/metrics"

	"github.com/inference-scaler/inference-scaler/scaler/hpa"
)

// mapper knows the kinds of Kubernetes. It is the same for all sequences.
var mapper = sync.OnceValue(func() meta.RESTMapper { return testrestmapper.TestOnlyStaticRESTMapper(legacyscheme.Scheme) })

const namespace, name = "ns", "fleet"

// pair is the controller and the model, and the scale target of both. The controller
// drives the model: whenever it reads the scale subresource, the model syncs too.
type pair struct {
	t    *testing.T
	seed uint64

	// The scale target, and how its pods follow its spec.
	spec, status int32
	lag          string
	metrics      []metric

	object *autoscalingv2.HorizontalPodAutoscaler // without what Kubernetes fills in
	client *fake.Clientset
	cancel context.CancelFunc
	ended  chan struct{}

	memory     hpa.Memory
	conditions conditions // as the model expects them
	shown      conditions // as the controller wrote them
	pending    bool       // the latest sync was not compared yet
	difference string     // the first
	syncs      []synced
	seen       coverage
}

// metric is an external metric, in thousandths; its value is the sum of its series.
type metric struct {
	series []int64
	target int64
	failed bool
}

func (m metric) sum() (sum int64) {
	for _, v := range m.series {
		sum += v
	}
	return sum
}

// conditions are the reasons of an HPA's conditions, and whether its replicas are
// limited.
type conditions struct {
	active, able, limited hpa.Reason
	isLimited             bool
}

// synced is one sync as the model saw it.
type synced struct {
	at      time.Time
	scale   hpa.Scale
	metrics []hpa.Metric
	result  hpa.Result
}

func (s synced) String() string {
	return fmt.Sprintf("%s spec %d status %d metrics %+v: model %+v", s.at.UTC().Format(time.TimeOnly), s.scale.Spec, s.scale.Status, s.metrics, s.result)
}

func newPair(t *testing.T, seed uint64, d draw) *pair {
	p := &pair{t: t, seed: seed, lag: one(d, "none", "one a step", "random", "random"), ended: make(chan struct{}), seen: coverage{reasons: map[hpa.Reason]int{}}}
	p.spec = 1 + d.Int32N(12)
	p.status = p.spec
	least, most := 1+d.Int32N(3), 4+d.Int32N(60)
	p.object = &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, UID: "1", Generation: 1},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: name},
			MinReplicas:    &least, MaxReplicas: most, Behavior: d.behavior(),
		},
	}
	for range one(d, 1, 1, 2, 3) {
		p.metrics = append(p.metrics, metric{target: d.target(), series: []int64{0}})
	}
	return p
}

// hpa returns the object as the API server has it.
func (p *pair) hpa() *autoscalingv2.HorizontalPodAutoscaler {
	o := p.object.DeepCopy()
	o.Spec.Metrics = nil
	for i, m := range p.metrics {
		o.Spec.Metrics = append(o.Spec.Metrics, autoscalingv2.MetricSpec{
			Type: autoscalingv2.ExternalMetricSourceType,
			External: &autoscalingv2.ExternalMetricSource{
				Metric: autoscalingv2.MetricIdentifier{Name: strconv.Itoa(i), Selector: &metav1.LabelSelector{}},
				Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: resource.NewMilliQuantity(m.target, resource.DecimalSI)},
			},
		})
	}
	legacyscheme.Scheme.Default(o)
	return o
}

// start runs the controller with the defaults of kube-controller-manager's flags.
func (p *pair) start(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p.cancel = cancel
	p.client = fake.NewSimpleClientset(p.hpa())
	p.client.PrependReactor("update", "horizontalpodautoscalers", p.written)
	p.client.PrependReactor("*", "events", func(clienttesting.Action) (bool, runtime.Object, error) { return true, &corev1.Event{}, nil })
	scales := &scalefake.FakeScaleClient{}
	scales.AddReactor("get", "deployments", p.read)
	scales.AddReactor("update", "deployments", p.rescaled)
	factory := informers.NewSharedInformerFactory(p.client, 0)
	c := podautoscaler.NewHorizontalController(ctx, p.client.CoreV1(), scales, p.client.AutoscalingV2(),
		mapper(), p,
		factory.Autoscaling().V2().HorizontalPodAutoscalers(), factory.Core().V1().Pods(),
		15*time.Second, 5*time.Minute, 0.1, 5*time.Minute, 30*time.Second)
	factory.Start(ctx.Done())
	go func() {
		defer close(p.ended)
		c.Run(ctx, 1)
	}()
	for len(p.syncs) == 0 { // until its caches have synced
		time.Sleep(100 * time.Millisecond)
		p.settle()
	}
}

// stop ends the controller, and lets its timers expire: a bubble ends when nothing waits.
func (p *pair) stop() {
	p.cancel()
	<-p.ended
	time.Sleep(time.Minute)
}

// step is a period of the controller, within which anything may happen once.
func (p *pair) step(d draw) {
	within := time.Duration(d.IntN(16)) * time.Second
	time.Sleep(within)
	p.settle()
	p.happen(d)
	if d.chance(15) {
		before := len(p.syncs)
		p.change(d)
		p.settle()
		if len(p.syncs) != before+1 {
			p.differ("%d syncs at once after a change of the spec", len(p.syncs)-before)
		}
		p.seen.prompt++
	}
	time.Sleep(15*time.Second - within)
	p.settle()
}

// happen changes all but the HPA: its metrics, the pods, and rarely spec.replicas.
func (p *pair) happen(d draw) {
	for i := range p.metrics {
		m := &p.metrics[i]
		sum := d.value(m.sum(), m.target, p.spec, p.status, p.object.Spec.MaxReplicas)
		if m.series = []int64{sum}; d.chance(20) {
			m.series = []int64{sum / 3, sum - sum/3}
		}
		m.failed = d.chance(12)
	}
	if d.chance(4) || p.spec == 0 && d.chance(30) {
		p.spec = one(d, 0, 1, d.Int32N(p.object.Spec.MaxReplicas+4))
	}
	switch {
	case p.lag == "none", p.lag == "random" && d.chance(40):
		p.status = p.spec
	case d.chance(3):
		p.status = 0
	case p.status != p.spec:
		p.status += max(-1, min(1, p.spec-p.status))
	}
}

// change writes another spec, as KEDA does: a target of another thousandth, another
// behavior, or other bounds.
func (p *pair) change(d draw) {
	switch d.IntN(6) {
	case 0:
		p.object.Spec.Behavior = d.behavior()
	case 1:
		p.object.Spec.MaxReplicas = 4 + d.Int32N(60)
	default:
		m := &p.metrics[d.IntN(len(p.metrics))]
		m.target = max(1, m.target+one[int64](d, -1, 1))
	}
	p.object.Generation++
	o := p.hpa()
	present, err := p.client.AutoscalingV2().HorizontalPodAutoscalers(namespace).Get(p.t.Context(), name, metav1.GetOptions{})
	require.NoError(p.t, err)
	o.Status, o.ResourceVersion = present.Status, present.ResourceVersion
	_, err = p.client.AutoscalingV2().HorizontalPodAutoscalers(namespace).Update(p.t.Context(), o, metav1.UpdateOptions{})
	require.NoError(p.t, err)
}

// read is the beginning of a sync: the controller reads the scale subresource.
func (p *pair) read(clienttesting.Action) (bool, runtime.Object, error) {
	p.compare() // the sync before has ended
	s := synced{at: time.Now(), scale: hpa.Scale{Spec: int(p.spec), Status: int(p.status)}}
	failed := 0
	for _, m := range p.metrics {
		s.metrics = append(s.metrics, hpa.Metric{Value: m.sum(), Target: m.target, Failed: m.failed})
		if m.failed {
			failed++
		}
	}
	spec := hpa.Spec{MinReplicas: int(*p.object.Spec.MinReplicas), MaxReplicas: int(p.object.Spec.MaxReplicas), Behavior: p.object.Spec.Behavior}
	s.result, p.memory = spec.Sync(s.at, s.scale, s.metrics, p.memory)
	p.conditions.expect(s.result)
	p.syncs, p.pending = append(p.syncs, s), true
	p.seen.count(s, spec, failed)
	return true, &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Spec:       autoscalingv1.ScaleSpec{Replicas: p.spec},
		Status:     autoscalingv1.ScaleStatus{Replicas: p.status, Selector: "app=fleet"},
	}, nil
}

// expect takes the conditions of a sync; those that it leaves as they were stay.
func (c *conditions) expect(r hpa.Result) {
	c.able = r.AbleToScale
	if r.ScalingActive != "" {
		c.active = r.ScalingActive
	}
	if r.ScalingLimited != "" {
		c.limited, c.isLimited = r.ScalingLimited, r.ScalingLimited != hpa.DesiredWithinRange
	}
}

func (c *coverage) count(s synced, spec hpa.Spec, failed int) {
	c.syncs++
	c.reasons[s.result.Reason]++
	for _, is := range []struct {
		so bool
		n  *int
	}{
		{s.scale.Spec != s.scale.Status, &c.lagging},
		{s.scale.Spec > 0 && s.scale.Status == 0, &c.podless},
		{spec.Behavior == nil, &c.plain},
		{failed > 0 && failed < len(s.metrics), &c.partial},
	} {
		if is.so {
			*is.n++
		}
	}
}

// rescaled takes the controller's spec.replicas.
func (p *pair) rescaled(action clienttesting.Action) (bool, runtime.Object, error) {
	scale := action.(clienttesting.UpdateAction).GetObject().(*autoscalingv1.Scale)
	p.spec = scale.Spec.Replicas
	if p.lag == "none" {
		p.status = p.spec
	}
	return true, scale, nil
}

// written takes the conditions that the controller writes.
func (p *pair) written(action clienttesting.Action) (bool, runtime.Object, error) {
	if action.GetSubresource() == "status" {
		p.shown = conditions{}
		for _, c := range action.(clienttesting.UpdateAction).GetObject().(*autoscalingv2.HorizontalPodAutoscaler).Status.Conditions {
			switch c.Type {
			case autoscalingv2.ScalingActive:
				p.shown.active = hpa.Reason(c.Reason)
			case autoscalingv2.AbleToScale:
				p.shown.able = hpa.Reason(c.Reason)
			case autoscalingv2.ScalingLimited:
				p.shown.limited, p.shown.isLimited = hpa.Reason(c.Reason), c.Status == corev1.ConditionTrue
			}
		}
	}
	return false, nil, nil
}

// settle waits until the controller rests, and ends the test if any of its syncs
// differed from the model's.
func (p *pair) settle() {
	synctest.Wait()
	p.compare()
	if p.difference != "" {
		p.t.Fatalf("HPA_FIRST=%d HPA_SEQUENCES=1: %s", p.seed, p.difference)
	}
}

// compare notes the first sync that did not what the model expects.
func (p *pair) compare() {
	if !p.pending || p.difference != "" {
		return
	}
	p.pending = false
	if want := p.syncs[len(p.syncs)-1].result.Replicas; want != int(p.spec) || p.conditions != p.shown {
		behavior, err := json.Marshal(p.object.Spec.Behavior)
		require.NoError(p.t, err)
		p.differ("the model has %d replicas and %+v, the controller %d and %+v; min %d, max %d, behavior %s",
			want, p.conditions, p.spec, p.shown, *p.object.Spec.MinReplicas, p.object.Spec.MaxReplicas, behavior)
	}
}

// differ notes a difference, with the latest syncs. The controller's goroutine may not
// end the test itself.
func (p *pair) differ(format string, args ...any) {
	p.difference = fmt.Sprintf(format, args...)
	for _, s := range p.syncs[max(0, len(p.syncs)-10):] {
		p.difference += "\n  " + s.String()
	}
}

var errNoMetric = errors.New("no such metric")

// GetExternalMetric returns the series of a metric.
func (p *pair) GetExternalMetric(metricName, _ string, _ labels.Selector) ([]int64, time.Time, error) {
	for i, m := range p.metrics {
		if strconv.Itoa(i) == metricName && !m.failed {
			return m.series, time.Now(), nil
		}
	}
	return nil, time.Time{}, errNoMetric
}

// GetResourceMetric is of no metric here.
func (p *pair) GetResourceMetric(context.Context, corev1.ResourceName, string, labels.Selector, string) (metrics.PodMetricsInfo, time.Time, error) {
	return nil, time.Time{}, errNoMetric
}

// GetRawMetric is of no metric here.
func (p *pair) GetRawMetric(string, string, labels.Selector, labels.Selector) (metrics.PodMetricsInfo, time.Time, error) {
	return nil, time.Time{}, errNoMetric
}

// GetObjectMetric is of no metric here.
func (p *pair) GetObjectMetric(string, string, *autoscalingv2.CrossVersionObjectReference, labels.Selector) (int64, time.Time, error) {
	return 0, time.Time{}, errNoMetric
}
